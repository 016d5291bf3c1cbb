/**
 * What pushes say of rows of the list: changes laid over what was read, and which rows would be new. The rows that
 * were read stay as they are, so a change costs its row and not the list.
 */
import type { Schema } from "../../api/client";
import type { InvocationSearch } from "../../app/search";
import type { InvocationState } from "../../theme/tokens";

export type Invocation = Schema["Invocation"];

/** Data of a push of topic `invocations`, as far as the list shows it. */
export interface Told {
	readonly id: string;
	readonly agent?: string;
	readonly version?: number;
	readonly session?: string | null;
	readonly state?: InvocationState;
	readonly seq?: number;
	readonly at?: string;
	readonly reason?: string | null;
	readonly error?: Invocation["error"];
	readonly usage?: Invocation["usage"] | null;
	readonly provider?: string | null;
	readonly waits_for?: Invocation["waits_for"];
	readonly paused?: boolean;
}

const ENDED: ReadonlySet<string> = new Set(["completed", "failed", "cancelled", "dead"]);

export function isEnded(state: InvocationState): boolean {
	return ENDED.has(state);
}

/** The row with what was told since it was read; itself if nothing was. Its cursor is the last record that it shows. */
export function withTold(row: Invocation, told: Told | undefined): Invocation {
	if (!told || (told.seq !== undefined && told.seq < row.cursor)) return row;
	if (isEnded(row.state) && !(told.state && isEnded(told.state))) return row;
	const state = told.state ?? row.state;
	return {
		...row,
		state,
		...(told.state && isEnded(told.state) && told.at ? { ended_at: row.ended_at ?? told.at } : {}),
		...(told.error === undefined ? {} : { error: told.error }),
		...(told.reason === undefined ? {} : { reason: told.reason }),
		...(told.usage ? { usage: told.usage } : {}),
		...(told.provider === undefined ? {} : { provider: told.provider }),
		...(told.paused === undefined ? {} : { paused: told.paused }),
		waits_for: state === "waiting" ? (told.waits_for ?? row.waits_for ?? []) : [],
	};
}

/** Later over earlier; one that is older than what is known changes nothing. */
export function merged(known: Told | undefined, told: Told): Told {
	if (!known) return told;
	if (told.seq !== undefined && known.seq !== undefined && told.seq < known.seq) return known;
	return { ...known, ...told };
}

/** Whether a row belongs into a filtered list, as far as the push knows: words are searched by the server only. */
export function belongs(told: Told, search: InvocationSearch): boolean {
	if (search.agent !== undefined && told.agent !== search.agent) return false;
	if (search.session !== undefined && told.session !== search.session) return false;
	return search.state === undefined || told.state === search.state;
}

/** Whether a row that was in the list has left its filter since. */
export function hasLeft(row: Invocation, search: InvocationSearch): boolean {
	return search.state !== undefined && row.state !== search.state;
}

/** Newest first, by id: ids begin with their time. Rows of `head` that are not there yet come on top. */
export function withHead(items: readonly Invocation[], head: readonly Invocation[]): Invocation[] {
	const known = new Set(items.slice(0, head.length * 2).map((item) => item.id));
	return [...head.filter((item) => !known.has(item.id)), ...items];
}

/** Reason first: what it waits for or failed of; else what it answered or was asked. */
export function why(item: Invocation): string {
	if (item.error) return item.error.detail ?? item.error.title ?? "";
	if (item.paused) return `paused${item.reason ? `: ${item.reason}` : ""}`;
	if (item.waits_for?.length) return item.waits_for.map(waitsFor).join(", ");
	if (item.reason) return item.reason.replaceAll("_", " ");
	for (const body of [item.output, item.payload]) {
		if (body === null || body === undefined) continue;
		const text = (body as { text?: unknown }).text;
		return typeof text === "string" ? text : JSON.stringify(body);
	}
	return "";
}

function waitsFor(item: NonNullable<Invocation["waits_for"]>[number]): string {
	switch (item.on) {
		case "approval":
			return `approval: ${item.tool}`;
		case "ambiguous":
			return `did it happen? ${item.name}`;
		case "signal":
			return `signal: ${item.name}`;
		case "child":
			return `child ${item.invocation}`;
		case "timer":
			return `until ${item.until}`;
		default:
			return "something";
	}
}
