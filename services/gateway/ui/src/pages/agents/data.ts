/** What the agents' pages read, and how pushes keep it current. */
import { type QueryClient, type UseQueryResult, useQuery, useQueryClient } from "@tanstack/react-query";
import { useMemo } from "react";
import { ask, client, type Schema } from "../../api/client";
import { Failure } from "../../api/problem";
import { type Push, useTopic } from "../../live/live";

export type AgentView = Schema["AgentView"];
export type Version = Schema["VersionView"];
export type Counts = Schema["Counts"];
export type Pause = Schema["PauseView"];

const PAGE = 500;
const AGENTS_MAX = 10_000;
const VERSIONS = 100;

export const keys = {
	list: (tenant: string) => [tenant, "agents", "list"],
	one: (tenant: string, name: string) => [tenant, "agents", "one", name],
	versions: (tenant: string, name: string) => [tenant, "agents", "versions", name],
	counts: (tenant: string, name: string) => [tenant, "invocations", "counts", { agent: name }],
	pauses: (tenant: string) => [tenant, "pauses"],
	models: (tenant: string) => [tenant, "models"],
	overview: (tenant: string) => [tenant, "agents", "overview"],
};

/** The agent that a push is about. */
export function agentOf(push: Push): string | undefined {
	const agent = (push.data as { agent?: unknown } | null)?.agent;
	return typeof agent === "string" ? agent : undefined;
}

export async function readAgent(name: string, signal?: AbortSignal): Promise<AgentView> {
	return ask(client.GET("/api/v1/agents/{agent}", { params: { path: { agent: name } }, ...(signal ? { signal } : {}) }));
}

/** In place where it is known, so that no row moves; at the end where it is new. */
export function patched(agents: readonly AgentView[], agent: AgentView): AgentView[] {
	const isKnown = agents.some((old) => old.metadata.name === agent.metadata.name);
	return isKnown ? agents.map((old) => (old.metadata.name === agent.metadata.name ? newer(old, agent) : old)) : [...agents, agent];
}

/** Answers may overtake each other: an older one never overwrites a newer one. */
export function newer(old: AgentView, now: AgentView): AgentView {
	const age = ({ status }: AgentView) =>
		[status.created_at, String(status.generation).padStart(20, "0"), status.published?.published_at ?? ""].join(" ");
	return age(now) < age(old) ? old : now;
}

/** Puts what was read or written where the pages look. */
export function keep(queries: QueryClient, tenant: string, agent: AgentView): void {
	const name = agent.metadata.name;
	queries.setQueryData<AgentView>(keys.one(tenant, name), (old) => (old ? newer(old, agent) : agent));
	queries.setQueryData<AgentView[]>(keys.list(tenant), (old) => old && patched(old, agent));
}

export function forget(queries: QueryClient, tenant: string, name: string): void {
	queries.setQueryData<AgentView[]>(keys.list(tenant), (old) => old?.filter((agent) => agent.metadata.name !== name));
}

export function useAgents(tenant: string): UseQueryResult<AgentView[]> {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: keys.list(tenant) });
	useTopic("agents", {
		push: (push) => {
			const name = agentOf(push);
			if (name === undefined) return readAgain();
			if (push.event === "agent.deleted") return forget(queries, tenant, name);
			void readAgent(name)
				.then((agent) => keep(queries, tenant, agent))
				.catch(readAgain);
		},
		reset: readAgain,
	});
	return useQuery({
		queryKey: keys.list(tenant),
		queryFn: async ({ signal }) => {
			const items: AgentView[] = [];
			let after: string | undefined;
			do {
				const query = { limit: PAGE, ...(after ? { after } : {}) };
				const page = await ask(client.GET("/api/v1/agents", { signal, params: { query } }));
				items.push(...page.items);
				after = page.next ?? undefined;
			} while (after !== undefined && items.length < AGENTS_MAX);
			return items;
		},
	});
}

/** Agents that this page deletes. */
export const deleting = new Set<string>();

export function useAgent(tenant: string, name: string): UseQueryResult<AgentView> {
	const queries = useQueryClient();
	const readAgain = () => {
		void queries.invalidateQueries({ queryKey: keys.one(tenant, name) });
		void queries.invalidateQueries({ queryKey: keys.versions(tenant, name) });
	};
	useTopic("agents", {
		// Who deletes it leaves the page; there is nothing to read any more.
		push: (push) => agentOf(push) === name && !deleting.has(`${tenant}/${name}`) && readAgain(),
		reset: readAgain,
	});
	return useQuery({
		queryKey: keys.one(tenant, name),
		queryFn: async ({ signal }) => {
			const read = await readAgent(name, signal);
			const held = queries.getQueryData<AgentView>(keys.one(tenant, name));
			return held ? newer(held, read) : read;
		},
	});
}

/** Newest first. */
export function useVersions(tenant: string, name: string): UseQueryResult<Version[]> {
	return useQuery({
		queryKey: keys.versions(tenant, name),
		queryFn: async ({ signal }) => {
			const params = { path: { agent: name }, query: { limit: VERSIONS } };
			const page = await ask(client.GET("/api/v1/agents/{agent}/versions", { signal, params }));
			return [...page.items].sort((a, b) => b.version - a.version);
		},
	});
}

export async function countsOf(name: string): Promise<Counts> {
	return ask(client.GET("/api/v1/invocations/counts", { params: { query: { agent: name } } }));
}

export function open(counts: Pick<Counts, "queued" | "running" | "waiting">): number {
	return counts.queued + counts.running + counts.waiting;
}

/** By the agent that each holds; the tenant's own pause is under the empty name. */
export function usePauses(tenant: string): ReadonlyMap<string, Pause> {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: keys.pauses(tenant) });
	useTopic("agents", { push: (push) => /paused|resumed/.test(push.event) && readAgain(), reset: readAgain });
	const pauses = useQuery({
		queryKey: keys.pauses(tenant),
		queryFn: ({ signal }) => ask(client.GET("/api/v1/pauses", { signal })),
	});
	return useMemo(() => {
		const held = (pauses.data?.items ?? []).filter((pause) => pause.paused);
		return new Map(held.map((pause) => [pausedAgent(pause), pause]));
	}, [pauses.data]);
}

/** Name of the agent that a pause is of; empty for a tenant's or everything's. */
export function pausedAgent(pause: Pause): string {
	const target = pause.target as unknown as Record<string, unknown>;
	const agent = typeof target === "object" && target !== null ? target.agent : undefined;
	return typeof agent === "string" ? agent : "";
}

export function useModels(tenant: string): UseQueryResult<readonly string[]> {
	return useQuery({
		queryKey: keys.models(tenant),
		queryFn: async ({ signal }) => {
			const list = await ask(client.GET("/api/v1/models", { signal }));
			return list.items.filter((model) => model.available).map((model) => model.name);
		},
	});
}

/** Whether a write was refused because somebody else was quicker. */
export function isStale(error: unknown): boolean {
	return error instanceof Failure && error.problem.status === 412;
}
