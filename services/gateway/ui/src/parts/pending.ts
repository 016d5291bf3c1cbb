/** What is new at the top of a list waits, so that nothing moves under the eye, unless nobody is reading it. */
import { useState } from "react";

/** Scrolled less than this is "at the top". */
const TOP_PX = 80;

export interface Pending {
	readonly count: number;
	/** Something new is there. */
	note(): void;
	/** Lets it in. */
	show(): void;
}

/** Whether a list may change above: it is at its top, and no row of it has the focus. */
export function isUntouched(): boolean {
	return window.scrollY < TOP_PX && document.activeElement?.closest("[data-row]") == null;
}

export function usePending(readAgain: () => void): Pending {
	const [count, setCount] = useState(0);
	const show = () => {
		setCount(0);
		readAgain();
	};
	return { count, show, note: () => (count === 0 && isUntouched() ? readAgain() : setCount((before) => before + 1)) };
}
