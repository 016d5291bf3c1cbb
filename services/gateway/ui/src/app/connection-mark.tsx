/** Icon and word of how the page is connected; where it is not, a way to try now. */
import { type ReactNode, useEffect, useState } from "react";
import { type Connection, reconnectNow, useConnection } from "../live/live";
import css from "./shell.module.css";
import { Time } from "./time";

const SHAPES: Record<Connection["kind"], ReactNode> = {
	live: <circle cx="8" cy="8" r="4" fill="currentColor" />,
	"catching up": <path d="M8 3a5 5 0 1 1-5 5" fill="none" stroke="currentColor" strokeWidth="2" />,
	reconnecting: <path d="M3 6a5 5 0 0 1 9-1m1-3v4H9m4 4a5 5 0 0 1-9 1m-1 3v-4h4" fill="none" stroke="currentColor" strokeWidth="1.6" />,
	offline: <path d="M3 13 13 3M4 8a4 4 0 0 1 4-4m4 4a4 4 0 0 1-4 4" fill="none" stroke="currentColor" strokeWidth="1.8" />,
	"signed out": <path d="M6 3H3v10h3m4-8 3 3-3 3m3-3H6" fill="none" stroke="currentColor" strokeWidth="1.6" />,
};

export function ConnectionMark(): ReactNode {
	const now = useConnection();
	return (
		<span className={css.connection} data-kind={now.kind}>
			<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
				{SHAPES[now.kind]}
			</svg>
			<span role="status">
				{now.kind}
				{now.kind === "offline" && (
					<>
						{" "}
						since <Time at={new Date(now.since).toISOString()} />
					</>
				)}
			</span>
			{now.kind === "reconnecting" && (
				<>
					<Countdown to={now.at} />
					<button type="button" className={css.now} onClick={reconnectNow}>
						now
					</button>
				</>
			)}
		</span>
	);
}

/** Says the seconds that are left; it sends nothing. */
function Countdown({ to }: { to: number }): ReactNode {
	const [now, setNow] = useState(Date.now);
	useEffect(() => {
		const timer = setInterval(() => setNow(Date.now()), 500);
		return () => clearInterval(timer);
	}, []);
	return <span aria-hidden="true">in {Math.max(0, Math.ceil((to - now) / 1_000))} s ·</span>;
}
