/** What needs a person, and which nodes are not well: each a link to where it is settled. Nothing where all is well. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ask, client, type Schema } from "../../api/client";
import { useCoalesced } from "../../app/coalesce";
import { useTopic } from "../../live/live";
import css from "./overview.module.css";

const KINDS = [
	["approvals", "approval", "approval", "approvals"],
	["ambiguous", "ambiguous", "step that may have happened", "steps that may have happened"],
	["dead_letters", "dead", "dead letter", "dead letters"],
] as const;

const NODE_PAUSE_MS = 1_000;

export function Needs({ tenant, counts }: { tenant: string; counts: Schema["AttentionCounts"] }): ReactNode {
	const nodes = useQuery({
		queryKey: [tenant, "overview", "nodes"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/nodes", { signal, params: { query: { limit: 500 } } })),
	});
	const again = useCoalesced(() => void nodes.refetch(), NODE_PAUSE_MS);
	useTopic("nodes", { push: again, reset: again });
	const waiting = KINDS.filter(([field]) => counts[field] > 0);
	const unwell = (nodes.data?.items ?? []).filter((node) => node.status !== "online" && !node.drained);
	return (
		<ul className={css.needs} aria-label="What needs you">
			{waiting.map(([field, kind, one, many]) => (
				<li key={field} data-bad={field === "dead_letters" || undefined}>
					<Link to="/t/$tenant/attention" params={{ tenant }} search={{ kind }}>
						{counts[field].toLocaleString("en")} {counts[field] === 1 ? one : many}
					</Link>
				</li>
			))}
			{unwell.map((node) => (
				<li key={node.node_id} data-bad={node.status === "offline" || undefined}>
					<Link to="/t/$tenant/nodes/$node" params={{ tenant, node: node.node_id }}>
						{node.name ?? node.node_id} {node.status}
					</Link>
				</li>
			))}
			{waiting.length + unwell.length === 0 && <li data-well="">Nothing waits for you.</li>}
		</ul>
	);
}
