/** What this page reads, and which pushes make it read again. */
import { type InfiniteData, useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { ask, client, type Schema } from "../../api/client";
import { withDefaults } from "../../api/defaults";
import { useTopic } from "../../live/live";
import { usePending } from "../../parts/pending";
import type { Memory } from "./score";
import type { MemorySearch } from "./search";

const PAGE = 50;
/** Hits of one search. */
const HITS = 30;

type Filters = Pick<MemorySearch, "agent" | "type" | "session" | "user" | "tag">;

export function filtersOf({ agent, type, session, user, tag }: MemorySearch): Filters {
	const all = { agent, type, session, user, tag };
	return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Filters;
}

export function useMemories(tenant: string, search: MemorySearch) {
	const queries = useQueryClient();
	const filters = filtersOf(search);
	const queryKey = [tenant, "memories", "list", filters];
	const readAgain = () => void queries.invalidateQueries({ queryKey: [tenant, "memories"] });
	const pending = usePending(() => void queries.invalidateQueries({ queryKey }));
	const set = (id: string, now: Memory | undefined) =>
		queries.setQueryData<Pages>(queryKey, (old) => old && withMemory(old, id, now));
	useTopic("memories", {
		push: ({ event, data }) => {
			const id = (data as { memory?: unknown } | null)?.memory;
			if (event === "memory.stored") return pending.note();
			if (typeof id !== "string") return readAgain();
			if (event === "memory.forgotten" || event === "memory.expired") return set(id, undefined);
			void queries.invalidateQueries({ queryKey: [tenant, "memories", "one", id] });
			ask(client.GET("/api/v1/memories/{id}", { params: { path: { id } } })).then(
				(now) => set(id, now),
				// It is gone meanwhile.
				() => set(id, undefined),
			);
		},
		reset: readAgain,
	});
	const memories = useInfiniteQuery({
		queryKey,
		queryFn: ({ signal, pageParam }) =>
			ask(
				client.GET("/api/v1/memories", {
					signal,
					params: { query: { ...filters, limit: PAGE, ...(pageParam ? { after: pageParam } : {}) } },
				}),
			),
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
	});
	return { memories, pending };
}

type Pages = InfiniteData<Schema["Page_Memory"]>;

/** The pages with a memory as it is now, or without it; nothing else moves. */
export function withMemory(pages: Pages, id: string, now: Memory | undefined): Pages {
	const items = (of: readonly Memory[]) =>
		of.flatMap((memory) => (memory.id !== id ? [memory] : now === undefined ? [] : [now]));
	return {
		...pages,
		pages: pages.pages.map((page) =>
			page.items.some((memory) => memory.id === id) ? { ...page, items: items(page.items) } : page,
		),
	};
}

/** A search is of one agent: what it would be given for this question. */
export function useHits(tenant: string, search: MemorySearch) {
	const { agent, q, type, session, user, tag } = search;
	return useQuery({
		queryKey: [tenant, "memories", "hits", filtersOf(search), q],
		queryFn: ({ signal }) =>
			ask(
				client.POST("/api/v1/memories/search", {
					signal,
					body: withDefaults<Schema["QueryRequest"]>({
						agent: agent ?? "",
						query: q ?? "",
						k: HITS,
						filters: {
							...(type ? { type } : {}),
							...(session ? { session } : {}),
							...(user ? { user } : {}),
							...(tag ? { tags: [tag] } : {}),
						},
					}),
				}),
			),
		enabled: agent !== undefined && q !== undefined,
	});
}

export function useRevisions(tenant: string, id: string) {
	return useQuery({
		queryKey: [tenant, "memories", "one", id],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/memories/{id}/history", { signal, params: { path: { id } } })),
	});
}

export function useEmbedding(tenant: string) {
	return useQuery({
		queryKey: [tenant, "memories", "embedding"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/memories/embedding", { signal })),
	});
}

/** Names of the tenant's agents, for choosing one. */
export function useAgentNames(tenant: string) {
	return useQuery({
		queryKey: [tenant, "agents", "names"],
		queryFn: async ({ signal }) => {
			const page = await ask(client.GET("/api/v1/agents", { signal, params: { query: { limit: 500 } } }));
			return page.items.map((agent) => agent.metadata.name);
		},
	});
}

export function useDocuments(tenant: string, base: string | undefined) {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: [tenant, "knowledge"] });
	useTopic("knowledge", { push: readAgain, reset: readAgain });
	return useInfiniteQuery({
		queryKey: [tenant, "knowledge", "documents", base ?? ""],
		queryFn: ({ signal, pageParam }) =>
			ask(
				client.GET("/api/v1/knowledge/documents", {
					signal,
					params: { query: { limit: 200, ...(base ? { base } : {}), ...(pageParam ? { after: pageParam } : {}) } },
				}),
			),
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
	});
}

export function useText(tenant: string, id: string) {
	return useQuery({
		queryKey: [tenant, "knowledge", "text", id],
		queryFn: ({ signal }) =>
			ask(client.GET("/api/v1/knowledge/documents/{id}/text", { signal, params: { path: { id } } })),
	});
}

export function usePieces(tenant: string, bases: readonly string[], q: string | undefined) {
	return useQuery({
		queryKey: [tenant, "knowledge", "hits", bases, q],
		queryFn: ({ signal }) =>
			ask(client.POST("/api/v1/knowledge/search", { signal, body: { bases: [...bases], query: q ?? "", k: 20 } })),
		enabled: q !== undefined && bases.length > 0,
	});
}
