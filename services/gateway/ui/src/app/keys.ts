/** Keys as commands: one listener for the page, told apart from typing, listed by `?`, letters switchable. */
import { useEffect, useRef } from "react";
import { hasLetters } from "./settings";
import { createStore } from "./store";

export interface KeyCommand {
	/** `j`, `Enter`, `Escape`, `/`, `g o` (one after the other), `mod+k` (Ctrl or ⌘). */
	readonly keys: string;
	readonly says: string;
	/** True also while a field is typed in: for `mod+…` and `Escape` only. */
	readonly always?: boolean;
	/** Answer `false` to let an earlier command have the key. */
	run(event: KeyboardEvent): boolean | undefined | void;
}

/** Newest last: the innermost component's command wins. */
const commands: KeyCommand[] = [];
/** What `?` lists; a new array whenever commands come or go. */
export const listed = createStore<readonly KeyCommand[]>([]);

/** A first key of two waits this long for the second. */
const SECOND_KEY_MS = 1_200;
let first: { key: string; at: number } | undefined;

function isTyped(target: EventTarget | null): boolean {
	if (!(target instanceof HTMLElement)) return false;
	return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

/** How a key event is written in `keys`. */
export function spelled(event: Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">): string {
	if (event.altKey) return "";
	return event.ctrlKey || event.metaKey ? `mod+${event.key.toLowerCase()}` : event.key;
}

/** Whether `keys` is one visible character, or two after one another. */
export function isLetter(keys: string): boolean {
	return keys.split(" ").every((key) => [...key].length === 1);
}

function heard(event: KeyboardEvent): void {
	if (event.defaultPrevented || event.isComposing) return;
	const key = spelled(event);
	if (key === "") return;
	// What lies below a dialog hears nothing while it is open.
	const typed = isTyped(event.target) || document.querySelector('[role="dialog"][aria-modal="true"]') !== null;
	const before = first && event.timeStamp - first.at < SECOND_KEY_MS ? `${first.key} ${key}` : undefined;
	first = undefined;
	for (const wanted of before === undefined ? [key] : [before, key]) {
		for (const command of commands.toReversed()) {
			if (command.keys !== wanted || (typed && !command.always)) continue;
			if (isLetter(command.keys) && !hasLetters.get()) continue;
			if (command.run(event) === false) continue;
			event.preventDefault();
			return;
		}
	}
	if (!typed && hasLetters.get() && commands.some((command) => command.keys.startsWith(`${key} `))) {
		first = { key, at: event.timeStamp };
	}
}

if (typeof document !== "undefined") document.addEventListener("keydown", heard);

/** The command lives while the component does; `undefined` is none. Its function may change at each render. */
export function useKey(keys: string | undefined, says: string, run: KeyCommand["run"], always = false): void {
	const latest = useRef(run);
	useEffect(() => {
		latest.current = run;
	});
	useEffect(() => {
		if (keys === undefined) return;
		const command: KeyCommand = { keys, says, always, run: (event) => latest.current(event) };
		commands.push(command);
		listed.set([...commands]);
		return () => {
			commands.splice(commands.indexOf(command), 1);
			listed.set([...commands]);
		};
	}, [keys, says, always]);
}
