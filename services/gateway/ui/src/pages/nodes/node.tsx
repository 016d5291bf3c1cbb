/** One node: what is the matter with it, what it runs, its machine, and what was done with it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { useMe } from "../../app/session";
import { Time } from "../../app/time";
import { Copy } from "../../parts/command";
import { type Column, Grid } from "../../parts/grid";
import { Pane } from "../../parts/pane";
import { Facts, Section } from "../../parts/section";
import { useBrain, useHealth, useNode } from "./data";
import { DrainAct, ForgetAct } from "./drain";
import { Health } from "./health";
import { NodeMark } from "./mark";
import { ChatLink } from "./nodes";
import css from "./nodes.module.css";
import { Sentences } from "./sentences";
import { type Brain, isOwn, type NodeRecord, type Pass, saidOf } from "./state";

/** Passes that are looked through for the node. */
const PASSES = 200;

export function NodePage(): ReactNode {
	const { tenant, node: id } = useParams({ from: "/t/$tenant/nodes/$node" });
	const node = useNode(tenant, id);
	return (
		<>
			<p>
				<Link to="/t/$tenant/nodes" params={{ tenant }}>
					Nodes
				</Link>
			</p>
			<Pane query={node} rows={10}>
				{(record) => <Known tenant={tenant} node={record} />}
			</Pane>
		</>
	);
}

function Known({ tenant, node }: { tenant: string; node: NodeRecord }): ReactNode {
	const { actor } = useMe();
	const navigate = useNavigate();
	const brain = useBrain(tenant);
	const health = useHealth(tenant);
	const { word, why } = saidOf(node, brain.data);
	const acts = isOwn(node, actor) && (
		<span className={css.acts}>
			<DrainAct tenant={tenant} node={node} hotkey="d" />
			<ForgetAct
				tenant={tenant}
				node={node}
				onDone={() => void navigate({ to: "/t/$tenant/nodes", params: { tenant } })}
			/>
			{node.status === "online" && <ChatLink tenant={tenant} node={node} />}
		</span>
	);
	return (
		<Section title={node.name} level={1} aside={acts}>
			<p>
				<NodeMark word={word} /> {why} <code>{node.node_id}</code> <Copy text={node.node_id} what="the node's id" />
			</p>
			<Section title="What it runs">
				<Replicas tenant={tenant} node={node} brain={brain.data} />
			</Section>
			<div className={css.split}>
				<Section title="Health">
					<Health node={node} reports={health.data?.get(node.node_id)} />
				</Section>
				<Section title="Configuration">
					<Configuration node={node} />
				</Section>
			</div>
			<Section title="What was done with it">
				<Events tenant={tenant} node={node} />
			</Section>
		</Section>
	);
}

type Replica = NodeRecord["replicas"][number];

function Replicas({ tenant, node, brain }: { tenant: string; node: NodeRecord; brain: Brain | undefined }): ReactNode {
	const since = new Map(brain?.replicas.map((replica) => [replica.replica, replica.since]));
	const columns: Column<Replica>[] = [
		{
			key: "agent",
			head: "Agent",
			width: "minmax(8rem, 1fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (replica) => (
				<Link to="/t/$tenant/agents/$agent" params={{ tenant: replica.tenant, agent: replica.agent }}>
					{replica.agent} v{replica.version}
				</Link>
			),
		},
		{
			key: "state",
			head: "State",
			width: "minmax(8rem, 2fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (replica) => (replica.detail ? `${replica.state}: ${replica.detail}` : replica.state),
		},
		{
			key: "running",
			head: "Running",
			width: "5rem",
			isNumber: true,
			cell: (replica) => (
				<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ agent: replica.agent, state: "running" }}>
					{replica.running ?? 0} running
				</Link>
			),
		},
		{
			key: "since",
			head: "Since",
			width: "9rem",
			narrow: "hide",
			cell: (replica) => {
				const at = since.get(replica.replica);
				return at === undefined ? "" : <Time at={at} />;
			},
		},
	];
	if (node.replicas.length === 0) {
		return (
			<p className={css.dim}>
				Nothing. Agents with a <code>placement</code> are placed by the{" "}
				<Link to="/t/$tenant/reconciler" params={{ tenant }}>
					reconciler
				</Link>
				.
			</p>
		);
	}
	return <Grid label="Replicas" columns={columns} items={node.replicas} id={(replica) => replica.replica} />;
}

/** Read-only here: the node's owner sets it on the machine. */
function Configuration({ node }: { node: NodeRecord }): ReactNode {
	const { sharing } = node;
	const list = (of: readonly string[] | undefined, none: string) => (of?.length ? of.join(", ") : none);
	const isShared = node.mode === "shared";
	return (
		<>
			<Facts
				of={[
					["Mode", node.mode],
					["Owner", node.owner],
					["Tenant", node.tenant],
					["Slots", node.slots],
					[
						"Labels",
						Object.entries(node.labels)
							.map(([name, value]) => `${name}=${value}`)
							.join(", ") || "none",
					],
					["Capabilities", list(node.capabilities, "none")],
					["Shared with tenants", isShared && list(sharing?.tenants, "the owner's own")],
					["Shared with users", isShared && list(sharing?.users, "all of those tenants")],
					["Shared with agents", isShared && list(sharing?.agents, "all of those tenants")],
					["Others' invocations", isShared && (sharing?.invocations_max ?? "as many as it has slots")],
					["Billed to", node.billable_account_handle ?? node.billable_account_uid],
					["Last seen", node.last_seen_at ? <Time key="seen" at={node.last_seen_at} /> : "never"],
					["Joined", <Time key="joined" at={node.registered_at} />],
					["Changed", <Time key="changed" at={node.updated_at} />],
				]}
			/>
			<p className={css.dim}>
				Set on the machine itself: its local page, or <code>mesh node</code> with other options.
			</p>
		</>
	);
}

function Events({ tenant, node }: { tenant: string; node: NodeRecord }): ReactNode {
	const passes = useQuery({
		queryKey: [tenant, "nodes", "one", node.node_id, "passes"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/passes", { signal, params: { query: { limit: PASSES } } })),
	});
	return (
		<Pane query={passes} rows={3}>
			{(page) => <Done passes={page.items} node={node.node_id} />}
		</Pane>
	);
}

function Done({ passes, node }: { passes: readonly Pass[]; node: string }): ReactNode {
	const about = passes.flatMap((pass) => {
		const actions = pass.actions.filter((action) => action.from === node || action.to === node);
		return actions.length === 0 ? [] : [{ pass, actions }];
	});
	if (about.length === 0) return <p className={css.dim}>None of the last {passes.length} passes was about it.</p>;
	return about.map(({ pass, actions }) => (
		<div key={pass.id ?? pass.at}>
			<Time at={pass.at} />
			<Sentences actions={actions} />
		</div>
	));
}
