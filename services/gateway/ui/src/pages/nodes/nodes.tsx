/** Where does it run: the machines that one may see, and what is the matter with each. */
import { SegmentedControl, TextInput } from "@mantine/core";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useMemo } from "react";
import { useMe } from "../../app/session";
import { Time } from "../../app/time";
import { Empty } from "../../parts/empty";
import { type Column, Grid } from "../../parts/grid";
import { useFilterKey } from "../../parts/filter-key";
import { Pane } from "../../parts/pane";
import { Section } from "../../parts/section";
import { type NodeHealth, useBrain, useHealth, useNodes } from "./data";
import { DrainAct } from "./drain";
import { HealthSpark } from "./health";
import { JoinDeed } from "./join";
import { NodeMark } from "./mark";
import css from "./nodes.module.css";
import type { NodesSearch } from "./search";
import { type Brain, counted, isOwn, matches, type NodeRecord, saidOf } from "./state";

export function Nodes(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/nodes" });
	const search = useSearch({ from: "/t/$tenant/nodes" });
	const { actor } = useMe();
	const nodes = useNodes(tenant);
	const brain = useBrain(tenant);
	const health = useHealth(tenant);
	const shown = useMemo(() => nodes.data?.filter((node) => matches(node, search, actor)), [nodes.data, search, actor]);
	const columns = useMemo(
		() => columnsOf(tenant, actor, brain.data, health.data),
		[tenant, actor, brain.data, health.data],
	);
	return (
		<Section title="Nodes" level={1} aside={<JoinDeed tenant={tenant} />}>
			<Filters search={search} all={nodes.data} actor={actor} />
			<Pane
				query={nodes}
				rows={6}
				isEmpty={() => shown?.length === 0}
				empty={<Nothing isFiltered={(nodes.data?.length ?? 0) > 0} />}
			>
				{() => <Grid hasKeys label="Nodes" columns={columns} items={shown ?? []} id={(node) => node.node_id} />}
			</Pane>
		</Section>
	);
}

function Nothing({ isFiltered }: { isFiltered: boolean }): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/nodes" });
	if (isFiltered) return <Empty says="No node matches." clear={() => void navigate({ search: {} })} />;
	return <Empty says="No node yet. This makes a machine one:" command="mesh node" />;
}

function Filters({
	search,
	all,
	actor,
}: {
	search: NodesSearch;
	all: NodeRecord[] | undefined;
	actor: string;
}): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/nodes" });
	const field = useFilterKey();
	const set = (change: { [K in keyof NodesSearch]: NodesSearch[K] | undefined }) =>
		void navigate({
			search: (old) =>
				Object.fromEntries(Object.entries({ ...old, ...change }).filter(([, value]) => value)) as NodesSearch,
			replace: true,
		});
	const own = all?.filter((node) => isOwn(node, actor)).length ?? 0;
	const others = (all?.length ?? 0) - own;
	return (
		<search className={css.filters}>
			<TextInput
				type="search"
				aria-label="Filter nodes by name, id, host, owner or label"
				placeholder="name, id, host, label"
				ref={field}
				size="xs"
				defaultValue={search.q ?? ""}
				onChange={(event) => set({ q: event.currentTarget.value || undefined })}
			/>
			<SegmentedControl
				size="xs"
				aria-label="Whose nodes"
				value={search.whose ?? "all"}
				onChange={(value) => set({ whose: value === "all" ? undefined : (value as "own" | "others") })}
				data={[
					{ value: "all", label: `all ${own + others}` },
					{ value: "own", label: `own ${own}` },
					{ value: "others", label: `shared by others ${others}` },
				]}
			/>
			<SegmentedControl
				size="xs"
				aria-label="Mode"
				value={search.mode ?? "all"}
				onChange={(value) => set({ mode: value === "all" ? undefined : (value as "private" | "shared" | "sleep") })}
				data={["all", "private", "shared", "sleep"].map((mode) => ({
					value: mode,
					label: mode === "all" ? "any mode" : mode,
				}))}
			/>
		</search>
	);
}

function columnsOf(
	tenant: string,
	actor: string,
	brain: Brain | undefined,
	health: Map<string, NodeHealth["reports"]> | undefined,
): Column<NodeRecord>[] {
	return [
		{
			key: "node",
			head: "Node",
			width: "minmax(9rem, 1.3fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (node) => (
				<>
					<Link to="/t/$tenant/nodes/$node" params={{ tenant, node: node.node_id }}>
						{node.name}
					</Link>
					<span className={css.code} title={node.node_id}>
						{node.node_id}
					</span>
				</>
			),
		},
		{ key: "mode", head: "Mode", width: "4rem", narrow: { width: "4rem" }, cell: (node) => node.mode },
		{ key: "state", head: "State", width: "minmax(9rem, 1.4fr)", cell: (node) => <Said node={node} brain={brain} /> },
		{ key: "host", head: "Host", width: "minmax(4rem, .5fr)", cell: (node) => <Host node={node} actor={actor} /> },
		{
			key: "seen",
			head: "Seen",
			width: "5.5rem",
			narrow: "hide",
			cell: (node) => (node.last_seen_at ? <Time at={node.last_seen_at} /> : "never"),
		},
		{
			key: "held",
			head: "Runs",
			width: "10rem",
			cell: (node) => `${counted(node.replicas.length, "replica")}, ${node.running} of ${counted(node.slots, "slot")}`,
		},
		{
			key: "health",
			head: "CPU, memory",
			width: "7.5rem",
			cell: (node) => <HealthSpark node={node} reports={health?.get(node.node_id)} />,
		},
		{
			key: "acts",
			head: "Acts",
			width: "10rem",
			cell: (node) => <Acts tenant={tenant} node={node} actor={actor} />,
		},
	];
}

function Said({ node, brain }: { node: NodeRecord; brain: Brain | undefined }): ReactNode {
	const { word, why } = saidOf(node, brain);
	return (
		<>
			<NodeMark word={word} /> {why && <span className={css.why}>{why}</span>}
		</>
	);
}

function Host({ node, actor }: { node: NodeRecord; actor: string }): ReactNode {
	return (
		<>
			{node.health?.hostname ?? "unknown"}
			{!isOwn(node, actor) && <span className={css.why}> of {node.owner}</span>}
		</>
	);
}

/** Talking to a node itself is for its owner. */
export function Acts({ tenant, node, actor }: { tenant: string; node: NodeRecord; actor: string }): ReactNode {
	if (!isOwn(node, actor)) return <span className={css.dim}>not yours</span>;
	return (
		<span className={css.acts}>
			<DrainAct tenant={tenant} node={node} />
			{node.status === "online" && <ChatLink tenant={tenant} node={node} />}
		</span>
	);
}

export function ChatLink({ tenant, node }: { tenant: string; node: NodeRecord }): ReactNode {
	return (
		<Link to="/t/$tenant/chat" params={{ tenant }} search={{ node: node.node_id }}>
			Chat
		</Link>
	);
}
