/**
 * What was told of invocations while this page is loaded, also while another page shows: the lists in the cache stay
 * true without being read again.
 */
import { queries } from "../../app/queries";
import { createStore } from "../../app/store";
import { subscribe } from "../../live/live";
import { merged, type Told } from "./fold";

/** More is not remembered: the rows are read again then. */
const REMEMBERED_MAX = 20_000;

const told = new Map<string, Told>();
/** Grows with each flush; the map itself is read by row. */
export const version = createStore(0);

export function toldOf(id: string): Told | undefined {
	return told.get(id);
}

/** Hears each change of an invocation as it comes. */
const hearing = new Set<(told: Told) => void>();

export function hear(listener: (told: Told) => void): () => void {
	hearing.add(listener);
	return () => void hearing.delete(listener);
}

let isQueued = false;

function changed(): void {
	if (isQueued) return;
	isQueued = true;
	// All pushes of a flush are one change.
	queueMicrotask(() => {
		isQueued = false;
		version.set(version.get() + 1);
	});
}

export function forgetAll(): void {
	told.clear();
	changed();
	void queries.invalidateQueries({ predicate: (query) => query.queryKey[1] === "invocations" });
}

subscribe("invocations", {
	push: ({ event, data }) => {
		if (!event.startsWith("invocation.")) return;
		const one = data as Told;
		const now = merged(told.get(one.id), one);
		told.delete(one.id);
		told.set(one.id, now);
		if (told.size > REMEMBERED_MAX) forgetAll();
		for (const listener of hearing) listener(now);
		changed();
	},
	reset: forgetAll,
});
