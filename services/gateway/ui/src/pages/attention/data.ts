/** What waits for a person, read once and kept current by events. */
import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { ask, askText, client } from "../../api/client";
import { useTopic } from "../../live/live";
import { type Approval, approvalsIn, changed, changeOf, type DeadLetter, settledIn, without } from "./waiting";

/** More of a kind than this are not read; the page says so. */
const READ_MAX = 500;

export interface Listed<T> {
	readonly items: readonly T[];
	readonly hasMore: boolean;
}

/** Ids that events told of and no list had yet: the list follows the events by a moment. */
const told = new Set<string>();
/** After an event the list is read again so long after it, twice as long each time, and then no more. */
const AGAIN_FIRST_MS = 200;
const AGAIN_LAST_MS = 1_600;

export function approvalsOf(tenant: string) {
	return queryOptions({
		queryKey: [tenant, "approvals"],
		queryFn: async ({ signal }): Promise<Listed<Approval>> => {
			for (let wait = AGAIN_FIRST_MS; ; wait *= 2) {
				const { items, next } = approvalsIn(await askText(`/api/v1/approvals?limit=${READ_MAX}`, { signal }));
				for (const { id } of items) told.delete(id);
				if (told.size === 0 || next !== null || wait > AGAIN_LAST_MS) {
					told.clear();
					return { items, hasMore: next !== null };
				}
				await new Promise((resolve) => setTimeout(resolve, wait));
				signal.throwIfAborted();
			}
		},
	});
}

export function deadLettersOf(tenant: string) {
	return queryOptions({
		queryKey: [tenant, "dead-letters", "open"],
		queryFn: async ({ signal }): Promise<Listed<DeadLetter>> => {
			const { items, next } = await ask(
				client.GET("/api/v1/dead-letters", { signal, params: { query: { limit: READ_MAX } } }),
			);
			return { items, hasMore: Boolean(next) };
		},
	});
}

/** Approvals and dead letters, current. `came`: a dead letter came; without it they are read again. */
export function useWaiting(tenant: string, came?: () => void) {
	const cache = useQueryClient();
	const approvals = useQuery(approvalsOf(tenant));
	const letters = useQuery(deadLettersOf(tenant));
	const { queryKey } = approvalsOf(tenant);
	const again = (key: readonly unknown[]) => void cache.invalidateQueries({ queryKey: key });
	const readLetters = () => again([tenant, "dead-letters"]);
	useTopic("invocations", {
		push: ({ event, data }) => {
			const change = changeOf(event, data);
			const known = cache.getQueryData<Listed<Approval>>(queryKey);
			if (!change) return;
			if (change.kind === "decided") told.delete(change.id);
			if (change.kind === "ended") for (const id of told) if (id.startsWith(change.invocation)) told.delete(id);
			if (!known) return;
			const items = changed(known.items, change);
			if (items === undefined && change.kind === "asked" && change.id !== undefined) told.add(change.id);
			if (items === undefined) again(queryKey);
			else if (items !== known.items) cache.setQueryData<Listed<Approval>>(queryKey, { ...known, items });
		},
		reset: () => again(queryKey),
	});
	useTopic("dead-letters", {
		push: ({ event, data }) => {
			const settled = settledIn(event, data);
			if (settled === undefined) return (came ?? readLetters)();
			cache.setQueryData<Listed<DeadLetter>>(deadLettersOf(tenant).queryKey, (known) =>
				known && { ...known, items: without(known.items, ({ id }) => id === settled) },
			);
		},
		reset: readLetters,
	});
	return { approvals, letters, readLetters };
}

/** Takes what was settled here out of what is shown; the server has said yes. */
export function useSettle(tenant: string) {
	const cache = useQueryClient();
	return (id: string) => {
		const drop = <T extends { id: string }>(known: Listed<T> | undefined) =>
			known && { ...known, items: without(known.items, (item) => item.id === id) };
		cache.setQueryData<Listed<Approval>>(approvalsOf(tenant).queryKey, drop);
		cache.setQueryData<Listed<DeadLetter>>(deadLettersOf(tenant).queryKey, drop);
	};
}
