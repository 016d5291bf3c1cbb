/** What is new and waits to be let in, so that nothing moves under the eye: `( 12 new )`. */
import type { ReactNode } from "react";
import css from "./small.module.css";

export function Pill({ count, what = "new", show }: { count: number; what?: string; show: () => void }): ReactNode {
	return (
		<div role="status" className={css.pillbox}>
			{count > 0 && (
				<button type="button" className={css.pill} onClick={show}>
					{count.toLocaleString("en")} {what}
				</button>
			)}
		</div>
	);
}
