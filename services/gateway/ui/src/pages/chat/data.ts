/** What talks are made of: turns of a session, messages of a channel, approvals, and how pushes keep them. */
import { type InfiniteData, type QueryClient, useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { ask, client, type Schema } from "../../api/client";
import { type Push, useTopic } from "../../live/live";
import type { Invocation } from "./fold";
import { conversations, patched } from "./sessions";

export type Message = Schema["Message"];
export type Approval = Schema["Approval"];

const TURNS = 40;
const RECENT = 200;
const MESSAGES = 50;

export const keys = {
	recent: (tenant: string) => [tenant, "chat", "recent"],
	turns: (tenant: string, agent: string | undefined, session: string) => [tenant, "chat", "turns", agent ?? "", session],
	channels: (tenant: string) => [tenant, "channels", "list"],
	messages: (tenant: string, channel: string) => [tenant, "channels", "messages", channel],
	approvals: (tenant: string) => [tenant, "chat", "approvals"],
	turn: (tenant: string, id: string) => [tenant, "chat", "turn", id],
	steps: (tenant: string, id: string) => [tenant, "chat", "steps", id],
};

type Pages = InfiniteData<Schema["Page_Invocation"], string>;

export async function readInvocation(id: string): Promise<Invocation> {
	return ask(client.GET("/api/v1/invocations/{id}", { params: { path: { id } } }));
}

/** A turn in full: lists only have the beginning of its texts. */
export function turnQuery(tenant: string, id: string) {
	return { queryKey: keys.turn(tenant, id), queryFn: () => readInvocation(id) };
}

/** Puts a turn that was read in full where talks look for it. */
export function keepTurn(queries: QueryClient, tenant: string, turn: Invocation): void {
	queries.setQueryData(keys.turn(tenant, turn.id), turn);
	queries.setQueryData<Invocation[]>(keys.recent(tenant), (old) => old && patched(old, turn));
	for (const agent of [turn.agent, undefined]) {
		queries.setQueryData<Pages>(keys.turns(tenant, agent, turn.session ?? ""), (old) => old && withTurn(old, turn));
	}
}

function withTurn(pages: Pages, turn: Invocation): Pages {
	const at = pages.pages.findIndex((page) => page.items.some((item) => item.id === turn.id));
	const [index, page] = at < 0 ? [0, pages.pages[0]] : [at, pages.pages[at]];
	if (!page) return pages;
	return { ...pages, pages: pages.pages.with(index, { ...page, items: patched(page.items, turn) }) };
}

interface Told {
	readonly id?: unknown;
	readonly invocation?: unknown;
	readonly session?: unknown;
	readonly agent?: unknown;
	readonly state?: unknown;
}

/** The invocation that a push is about; an approval is named by it and its step. */
function invocationOf({ id, invocation }: Told): string | undefined {
	if (typeof invocation === "string") return invocation;
	return typeof id === "string" ? id.split("-")[0] : undefined;
}

/** Reads the turns of a talk that pushes are about. */
export function useInvocationPushes(tenant: string, isOurs: (told: Told) => boolean): void {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: [tenant, "chat"] });
	useTopic("invocations", {
		push: (push: Push) => {
			const told = (push.data ?? {}) as Told;
			const id = invocationOf(told);
			if (id === undefined || !isOurs(told)) return;
			if (push.event.startsWith("approval.")) void queries.invalidateQueries({ queryKey: keys.approvals(tenant) });
			void readInvocation(id)
				.then((turn) => keepTurn(queries, tenant, turn))
				.catch(readAgain);
		},
		reset: readAgain,
	});
}

/** Runs `work` now, or once more after the run that is under way: many pushes make few requests. */
function oneAtATime(work: () => Promise<unknown>): () => void {
	let [isRunning, isAsked] = [false, false];
	const run = async () => {
		isRunning = true;
		do {
			isAsked = false;
			await work().catch(() => undefined);
		} while (isAsked);
		isRunning = false;
	};
	return () => {
		isAsked = true;
		if (!isRunning) void run();
	};
}

/** Talks of late, newest first. Known ones change in place; what is new is read with the list. */
export function useConversations(tenant: string) {
	const queries = useQueryClient();
	const queryKey = keys.recent(tenant);
	const recent = useQuery({
		queryKey,
		queryFn: async ({ signal }) =>
			(await ask(client.GET("/api/v1/invocations", { signal, params: { query: { limit: RECENT } } }))).items,
	});
	const { refetch } = recent;
	const readAgain = useMemo(() => oneAtATime(() => refetch({ cancelRefetch: false })), [refetch]);
	useTopic("invocations", {
		push: (push) => {
			const told = (push.data ?? {}) as Told;
			if (typeof told.session !== "string" || typeof told.state !== "string") return;
			const held = queries.getQueryData<Invocation[]>(queryKey)?.find(({ id }) => id === told.id);
			if (!held) return readAgain();
			if (held.state === told.state) return;
			const next = { ...held, state: told.state as Invocation["state"] };
			queries.setQueryData<Invocation[]>(queryKey, (old) => old && patched(old, next));
		},
		reset: readAgain,
	});
	const found = useMemo(() => conversations(recent.data ?? []), [recent.data]);
	return { recent, found };
}

/** Turns of a session, newest first; of one agent, or of all. */
export function useTurns(tenant: string, agent: string | undefined, session: string) {
	const turns = useInfiniteQuery({
		queryKey: keys.turns(tenant, agent, session),
		queryFn: ({ signal, pageParam }) => {
			const query = { session, limit: TURNS, ...(agent ? { agent } : {}), ...(pageParam ? { after: pageParam } : {}) };
			return ask(client.GET("/api/v1/invocations", { signal, params: { query } }));
		},
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
		enabled: session !== "",
	});
	const items = useMemo(() => turns.data?.pages.flatMap((page) => page.items) ?? [], [turns.data]);
	return { turns, items };
}

export function useChannels(tenant: string) {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: keys.channels(tenant) });
	useTopic("channels", { push: (push) => push.event === "channel.created" && readAgain(), reset: readAgain });
	return useQuery({
		queryKey: keys.channels(tenant),
		queryFn: async ({ signal }) =>
			(await ask(client.GET("/api/v1/channels", { signal, params: { query: { limit: 200 } } }))).items,
	});
}

type MessagePages = InfiniteData<Schema["History"], string>;

/** Messages of a channel, oldest first, as far back as was read. */
export function useMessages(tenant: string, channel: string) {
	const queries = useQueryClient();
	const queryKey = keys.messages(tenant, channel);
	const readAgain = () => void queries.invalidateQueries({ queryKey });
	const page = (after: string, signal?: AbortSignal) => {
		const params = { path: { channel }, query: { limit: MESSAGES, ...(after ? { after } : {}) } };
		return ask(client.GET("/api/v1/channels/{channel}/messages", { params, ...(signal ? { signal } : {}) }));
	};
	useTopic(`channel:${channel}`, {
		push: (push) => {
			if (push.event !== "message.posted") return;
			void page("")
				.then((newest) => queries.setQueryData<MessagePages>(queryKey, (old) => old && withNewest(old, newest)))
				.catch(readAgain);
		},
		reset: readAgain,
	});
	const messages = useInfiniteQuery({
		queryKey,
		queryFn: ({ signal, pageParam }) => page(pageParam, signal),
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
	});
	const items = useMemo(() => inOrder(messages.data?.pages ?? []), [messages.data]);
	const keep = (message: Message) =>
		queries.setQueryData<MessagePages>(queryKey, (old) => old && withNewest(old, { items: [message] }));
	return { messages, items, keep };
}

/** New messages join the newest page; where more came than a page holds, all is read again by `reset`. */
function withNewest(pages: MessagePages, newest: Schema["History"]): MessagePages {
	const known = new Set(pages.pages.flatMap((page) => page.items.map(({ id }) => id)));
	const fresh = newest.items.filter(({ id }) => !known.has(id));
	const [first, ...rest] = pages.pages;
	if (!first || fresh.length === 0) return pages;
	return { ...pages, pages: [{ ...first, items: [...first.items, ...fresh] }, ...rest] };
}

/** Pages are newest first, each oldest first. */
function inOrder(pages: readonly Schema["History"][]): Message[] {
	return [...pages].reverse().flatMap((page) => page.items);
}

/** What waits for a person, by invocation and step. */
export function useApprovals(tenant: string, isNeeded: boolean): ReadonlyMap<string, Approval> {
	const approvals = useQuery({
		queryKey: keys.approvals(tenant),
		queryFn: async ({ signal }) =>
			(await ask(client.GET("/api/v1/approvals", { signal, params: { query: { limit: 500 } } }))).items,
		enabled: isNeeded,
	});
	return useMemo(() => new Map((approvals.data ?? []).map((one) => [`${one.invocation}-${one.step}`, one])), [approvals.data]);
}
