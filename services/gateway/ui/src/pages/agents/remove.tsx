/** Deleting an agent: what stays and what ends, counted first. */
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { Act } from "../../parts/act";
import { type AgentView, countsOf, deleting, forget, keys, open } from "./data";
import { counted } from "./words";

export function RemoveAct({ tenant, view }: { tenant: string; view: AgentView }): ReactNode {
	const queries = useQueryClient();
	const navigate = useNavigate();
	const name = view.metadata.name;
	const run = async () => {
		const params = { path: { agent: name }, header: { "If-Match": `"${view.status.etag}"` } };
		deleting.add(`${tenant}/${name}`);
		try {
			await ask(client.DELETE("/api/v1/agents/{agent}", { params }));
		} catch (error) {
			deleting.delete(`${tenant}/${name}`);
			throw error;
		}
		forget(queries, tenant, name);
		await navigate({ to: "/t/$tenant/agents", params: { tenant } });
		queries.removeQueries({ queryKey: keys.one(tenant, name) });
		deleting.delete(`${tenant}/${name}`);
	};
	return (
		<Act
			label="Delete"
			least="developer"
			tone="danger"
			command={`mesh delete agent ${name}`}
			confirm={() => effect(name)}
			yes={`Delete ${name}`}
			run={run}
		/>
	);
}

async function effect(name: string): Promise<ReactNode> {
	const [counts, brain] = await Promise.all([
		countsOf(name),
		ask(client.GET("/api/v1/brain/state")).catch(() => undefined),
	]);
	const replicas = brain?.agents.find((one) => one.agent === name)?.assigned ?? 0;
	return (
		<>
			<p>
				No new invocation of {name} starts.{" "}
				{open(counts) > 0 && `${counted(open(counts), "open one")} ${open(counts) === 1 ? "keeps its" : "keep their"} version and ${open(counts) === 1 ? "runs" : "run"} on. `}
				{counts.all > 0 && `What is recorded of ${counted(counts.all, "invocation")} stays.`}
			</p>
			<p>{replicas === 0 ? "No replica runs." : `${counted(replicas, "replica")} ${replicas === 1 ? "stops" : "stop"}.`}</p>
		</>
	);
}
