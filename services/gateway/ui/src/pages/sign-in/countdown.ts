/** Whole seconds until a moment, told anew each second; it asks nobody. */
import { useEffect, useState } from "react";

export function secondsUntil(until: number | undefined, now: number): number {
	return until === undefined ? 0 : Math.max(0, Math.ceil((until - now) / 1_000));
}

export function useCountdown(until: number | undefined): number {
	const [now, setNow] = useState(() => Date.now());
	useEffect(() => {
		if (until === undefined) return;
		setNow(Date.now());
		const timer = setInterval(() => {
			const at = Date.now();
			setNow(at);
			if (at >= until) clearInterval(timer);
		}, 1_000);
		return () => clearInterval(timer);
	}, [until]);
	return secondsUntil(until, Math.max(now, 0));
}
