/** What these pages read, and how pushes keep it: a node is read again by itself, the whole mesh as one. */
import { type UseQueryResult, useQuery, useQueryClient } from "@tanstack/react-query";
import { ask, client, type Schema } from "../../api/client";
import { type Push, useTopic } from "../../live/live";
import type { Brain, NodeRecord } from "./state";

/** Nodes of one page of the API, and of all pages together. */
const PAGE = 500;
const NODES_MAX = 5_000;

export type NodeHealth = Schema["NodeHealth"];

/** All pages of a list, up to `NODES_MAX` items. */
async function all<T>(
	read: (after: string | undefined) => Promise<{ items: T[]; next?: string | null }>,
): Promise<T[]> {
	const items: T[] = [];
	let after: string | undefined;
	do {
		const page = await read(after);
		items.push(...page.items);
		after = page.next ?? undefined;
	} while (after !== undefined && items.length < NODES_MAX);
	return items;
}

export function useNodes(tenant: string): UseQueryResult<NodeRecord[]> {
	const queries = useQueryClient();
	const key = [tenant, "nodes", "list"];
	const readAgain = () => void queries.invalidateQueries({ queryKey: [tenant, "nodes"] });
	// What they run changes with the passes.
	useTopic("passes", { push: () => void queries.invalidateQueries({ queryKey: key }), reset: readAgain });
	useTopic("nodes", {
		push: (push) => {
			const id = nodeOf(push);
			if (id === undefined) return readAgain();
			if (push.event === "node.forgotten") {
				queries.setQueryData<NodeRecord[]>(key, (old) => old?.filter((node) => node.node_id !== id));
				return;
			}
			void queries
				.fetchQuery({ ...oneNode(tenant, id), staleTime: 0 })
				.then((node) => queries.setQueryData<NodeRecord[]>(key, (old) => old && patched(old, node)))
				// It was forgotten meanwhile, or is not ours to see.
				.catch(() => readAgain());
		},
		reset: readAgain,
	});
	return useQuery({
		queryKey: key,
		queryFn: ({ signal }) =>
			all((after) =>
				ask(client.GET("/api/v1/nodes", { signal, params: { query: { limit: PAGE, ...(after ? { after } : {}) } } })),
			),
	});
}

/** In place where it is known, so that no row moves; at the end where it is new. */
export function patched(nodes: readonly NodeRecord[], node: NodeRecord): NodeRecord[] {
	const isKnown = nodes.some((old) => old.node_id === node.node_id);
	return isKnown ? nodes.map((old) => (old.node_id === node.node_id ? node : old)) : [...nodes, node];
}

/** The node that a push is about. */
export function nodeOf(push: Push): string | undefined {
	const node = (push.data as { node?: unknown } | null)?.node;
	return typeof node === "string" ? node : undefined;
}

export function oneNode(tenant: string, id: string) {
	return {
		queryKey: [tenant, "nodes", "one", id],
		queryFn: (): Promise<NodeRecord> => ask(client.GET("/api/v1/nodes/{node}", { params: { path: { node: id } } })),
	};
}

export function useNode(tenant: string, id: string): UseQueryResult<NodeRecord> {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: [tenant, "nodes", "one", id] });
	useTopic("nodes", { push: (push) => nodeOf(push) === id && readAgain(), reset: readAgain });
	// What it runs changes with the passes.
	useTopic("passes", { push: readAgain, reset: readAgain });
	return useQuery(oneNode(tenant, id));
}

export function useHealth(tenant: string): UseQueryResult<Map<string, NodeHealth["reports"]>> {
	return useQuery({
		queryKey: [tenant, "nodes", "health"],
		queryFn: async ({ signal }) => {
			const items = await all((after) =>
				ask(
					client.GET("/api/v1/node-health", {
						signal,
						params: { query: { limit: PAGE, ...(after ? { after } : {}) } },
					}),
				),
			);
			return new Map(items.map((node) => [node.node_id, node.reports]));
		},
	});
}

/** Services, nodes, agents, replicas and the last passes; read again when any of them changed. */
export function useBrain(tenant: string): UseQueryResult<Brain> {
	const queries = useQueryClient();
	const queryKey = [tenant, "brain"];
	const readAgain = () => void queries.invalidateQueries({ queryKey });
	const listener = { push: readAgain, reset: readAgain };
	useTopic("passes", listener);
	useTopic("nodes", listener);
	useTopic("agents", listener);
	useTopic("services", listener);
	return useQuery({
		queryKey,
		queryFn: ({ signal }) => ask(client.GET("/api/v1/brain/state", { signal })),
	});
}
