/** Work that events ask for more often than it is worth doing. */
import { useEffect, useMemo, useRef } from "react";

export interface Coalesced {
	/** Does it now, or once after the pause if it was done a moment ago. */
	ask(): void;
	stop(): void;
}

/** At most once in `pause` milliseconds, and always once after the last asking. */
export function coalesced(work: () => void, pause: number, now: () => number = Date.now): Coalesced {
	let last = Number.NEGATIVE_INFINITY;
	let timer: ReturnType<typeof setTimeout> | undefined;
	const run = () => {
		timer = undefined;
		last = now();
		work();
	};
	return {
		ask: () => {
			if (timer !== undefined) return;
			const wait = last + pause - now();
			if (wait <= 0) run();
			else timer = setTimeout(run, wait);
		},
		stop: () => {
			clearTimeout(timer);
			timer = undefined;
		},
	};
}

export function useCoalesced(work: () => void, pause: number): () => void {
	const latest = useRef(work);
	useEffect(() => {
		latest.current = work;
	});
	const made = useMemo(() => coalesced(() => latest.current(), pause), [pause]);
	useEffect(() => () => made.stop(), [made]);
	return made.ask;
}
