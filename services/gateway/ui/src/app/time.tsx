/** Times: absolute, local or UTC by one switch; hovering says both and the age, copying gives RFC 3339. */
import { type ClipboardEvent, type ReactNode, useState } from "react";
import { isUtc as isUtcStore } from "./settings";
import { useStore } from "./store";

interface Clock {
	readonly isUtc: boolean;
	readonly toggle: () => void;
}

const toggle = () => isUtcStore.set(!isUtcStore.get());

export function useClock(): Clock {
	return { isUtc: useStore(isUtcStore), toggle };
}

/** `12:04:31`, with the day when it is not today. Without `Intl`, whose formats made most of a frame while one scrolls. */
export function said(at: Date, isUtc: boolean, now: Date): string {
	const [day, time] = dayAndTime(at, isUtc);
	return day === dayAndTime(now, isUtc)[0] ? time : `${day} ${time}`;
}

function dayAndTime(date: Date, isUtc: boolean): [string, string] {
	const shown = isUtc ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
	const written = shown.toISOString();
	return [written.slice(0, 10), written.slice(11, 19)];
}

const UNITS = [
	["d", 86_400_000],
	["h", 3_600_000],
	["min", 60_000],
	["s", 1_000],
] as const;

/** `2 h 14 min`, `1.24 s`, `312 ms`. */
export function span(milliseconds: number): string {
	if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
	if (milliseconds < 60_000) return `${(milliseconds / 1_000).toPrecision(3).replace(/\.?0+$/, "")} s`;
	let rest = milliseconds;
	const parts: string[] = [];
	for (const [unit, length] of UNITS) {
		const count = Math.floor(rest / length);
		rest -= count * length;
		if (count > 0) parts.push(`${count} ${unit}`);
		if (parts.length === 2) break;
	}
	return parts.join(" ");
}

export function Time({ at }: { at: string }): ReactNode {
	const { isUtc } = useClock();
	const [now] = useState(() => new Date());
	const date = new Date(at);
	const both = `${said(date, false, now)} local · ${said(date, true, now)} UTC · ${span(Math.max(0, now.getTime() - date.getTime()))} ago`;
	return (
		<time dateTime={date.toISOString()} title={both} onCopy={copied}>
			{said(date, isUtc, now)}
		</time>
	);
}

/** A time that is copied by itself is copied as RFC 3339, whatever it looks like here. */
function copied(event: ClipboardEvent<HTMLTimeElement>): void {
	const selection = document.getSelection();
	if (selection?.toString().trim() !== event.currentTarget.textContent) return;
	event.clipboardData.setData("text/plain", event.currentTarget.dateTime);
	event.preventDefault();
}
