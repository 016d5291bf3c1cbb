/** What waits for a person: folding events into what was read, and dead letters by reason. Pure. */
import type { Schema } from "../../api/client";
import { at, type Member, members, slice } from "../invocation/slices";

/** With its arguments as they were written: a person decides on every digit. */
export type Approval = Omit<Schema["Page_Approval"]["items"][number], "input"> & { readonly written: string };
export type DeadLetter = Schema["DeadLetter"];

/** A page of approvals as the API wrote it. */
export function approvalsIn(page: string): { items: Approval[]; next: string | null } {
	const { items, next } = JSON.parse(page) as Schema["Page_Approval"];
	const list = at(page, ["items"]);
	const places: Member[] = list ? members(page, list) : [];
	const shown = items.map(({ input: _, ...item }, index) => {
		const one = slice(page, places[index]?.value ?? { start: 0, end: 0 });
		const range = at(one, ["input", "arguments"]) ?? at(one, ["input"]);
		return { ...item, written: range ? slice(one, range) : "null" };
	});
	// Who waits longest comes first, and what is new last: nothing moves under the eye.
	shown.sort((a, b) => a.since.localeCompare(b.since) || a.id.localeCompare(b.id));
	return { items: shown, next: next ?? null };
}

export type Change =
	/** To be read, unless it is known: a wait that is recorded anew asks for the same again. */
	| { readonly kind: "asked"; readonly id?: string }
	| { readonly kind: "decided"; readonly id: string }
	/** Nobody needs to decide on what has ended. */
	| { readonly kind: "ended"; readonly invocation: string };

const ENDS = new Set(["invocation.completed", "invocation.failed", "invocation.cancelled", "invocation.dead"]);

/** `undefined`: the event is about something else. */
export function changeOf(event: string, data: unknown): Change | undefined {
	const said = (typeof data === "object" && data !== null ? data : {}) as Record<string, unknown>;
	const { id, invocation, step } = said;
	if (ENDS.has(event)) return typeof id === "string" ? { kind: "ended", invocation: id } : undefined;
	if (event !== "approval.requested" && event !== "approval.decided") return undefined;
	if (typeof step !== "number" || typeof invocation !== "string") return { kind: "asked" };
	const named = `${invocation}-${step}`;
	return { kind: event === "approval.decided" ? "decided" : "asked", id: named };
}

/** What is left after a change; `undefined`: read again. The same array where nothing changes. */
export function changed(approvals: readonly Approval[], change: Change): readonly Approval[] | undefined {
	switch (change.kind) {
		case "asked":
			return approvals.some((one) => one.id === change.id) ? approvals : undefined;
		case "decided":
			return without(approvals, (one) => one.id === change.id);
		case "ended":
			return without(approvals, (one) => one.invocation === change.invocation);
	}
}

/** The dead letter that was requeued or discarded; `undefined`: one came. */
export function settledIn(event: string, data: unknown): string | undefined {
	if (event === "dead-letter.added") return undefined;
	const said = (typeof data === "object" && data !== null ? data : {}) as Record<string, unknown>;
	return typeof said.dead_letter === "string" ? said.dead_letter : undefined;
}

export function without<T>(items: readonly T[], isGone: (item: T) => boolean): readonly T[] {
	return items.some(isGone) ? items.filter((item) => !isGone(item)) : items;
}

export interface Reason {
	/** Of the problem, such as `execution/attempts-exhausted`. */
	readonly type: string;
	readonly title: string;
	readonly letters: readonly DeadLetter[];
}

/** The reason of most letters first; within one, newest first as they are read. */
export function byReason(letters: readonly DeadLetter[]): Reason[] {
	const reasons = new Map<string, { type: string; title: string; letters: DeadLetter[] }>();
	for (const letter of letters) {
		const { type, title } = letter.reason;
		const known = reasons.get(type) ?? { type, title, letters: [] };
		known.letters.push(letter);
		reasons.set(type, known);
	}
	return [...reasons.values()].sort((a, b) => b.letters.length - a.letters.length || a.type.localeCompare(b.type));
}
