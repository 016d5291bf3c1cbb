/** Passes as the server's sentences; those that did nothing are folded, one can be open. */
import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { span, Time } from "../../app/time";
import { Sentences } from "../nodes/sentences";
import { type Action, type Brain, type Entry, folded, type Pass } from "./fold";
import type { ReconcilerSearch } from "./search";
import css from "./reconciler.module.css";

/** Of the passes of one fold that can be opened singly. */
const FOLD_LISTED = 20;

interface PassesProps {
	readonly tenant: string;
	readonly passes: readonly Pass[];
	readonly agent: string | undefined;
	readonly open: string | undefined;
	readonly nodes: Brain["nodes"];
	readonly more: (() => void) | undefined;
	readonly isReading: boolean;
}

export function Passes(props: PassesProps): ReactNode {
	const { passes, agent, open, more, isReading } = props;
	return (
		<>
			<ol className={css.passes} aria-label="Passes, newest first">
				{folded(passes, agent, open).map((entry) => (
					<li key={keyOf(entry)}>
						{entry.kind === "idle" ? <Idle passes={entry.passes} agent={agent} /> : <One {...props} entry={entry} />}
					</li>
				))}
			</ol>
			{more && (
				<Button size="compact-sm" variant="default" loading={isReading} onClick={more}>
					Older passes
				</Button>
			)}
		</>
	);
}

/** A fold keeps its key while newer passes join it. */
function keyOf(entry: Entry): string {
	return entry.kind === "pass" ? (entry.pass.id ?? entry.pass.at) : `idle-${entry.passes.at(-1)?.id ?? ""}`;
}

function Idle({ passes, agent }: { passes: readonly Pass[]; agent: string | undefined }): ReactNode {
	const newest = passes[0];
	const oldest = passes.at(-1);
	if (!newest || !oldest) return null;
	const held = newest.actions.filter((action) => agent === undefined || action.agent === agent);
	return (
		<details className={css.idle}>
			<summary>
				<Time at={oldest.at} />
				{passes.length > 1 && (
					<>
						{" – "}
						<Time at={newest.at} />
					</>
				)}{" "}
				{passes.length === 1 ? "a pass" : `${passes.length} passes`} without a change
				{held.length > 0 && `, ${held.length} held`}
			</summary>
			<Sentences actions={held} nothing="Nothing differed." />
			<ul className={css.opens} aria-label="Open one of them">
				{passes.slice(0, FOLD_LISTED).map((pass) => (
					<li key={pass.id ?? pass.at}>
						<Link to="." search={(old) => ({ ...old, ...(pass.id ? { pass: pass.id } : {}) })} resetScroll={false}>
							<Time at={pass.at} />
						</Link>
					</li>
				))}
			</ul>
		</details>
	);
}

function One({ entry, open, tenant, nodes }: PassesProps & { entry: Extract<Entry, { kind: "pass" }> }): ReactNode {
	const { pass, actions } = entry;
	const isOpen = pass.id != null && pass.id === open;
	return (
		<div className={css.pass} aria-current={isOpen ? "true" : undefined}>
			<div className={css.bar}>
				<Link
					to="."
					search={(old) => {
						const { pass: _, ...rest } = old as ReconcilerSearch;
						return isOpen || pass.id == null ? rest : { ...rest, pass: pass.id };
					}}
					resetScroll={false}
					aria-expanded={isOpen}
				>
					<Time at={pass.at} />
				</Link>{" "}
				<span className={css.dim}>
					{BECAUSE[pass.because] ?? pass.because}, {span(pass.took_ms)}
				</span>
			</div>
			{pass.error && <p className={css.error}>failed: {pass.error}</p>}
			<Sentences actions={actions} />
			{(pass.more ?? 0) > 0 && <p>and {pass.more} more</p>}
			{isOpen && (
				<>
					<Seen pass={pass} />
					<Others tenant={tenant} actions={actions} nodes={nodes} />
				</>
			)}
		</div>
	);
}

const BECAUSE: Record<string, string> = {
	tick: "its turn",
	bell: "something changed",
	start: "a reconciler began to lead",
	asked: "asked for",
};

export function Seen({ pass }: { pass: Pass }): ReactNode {
	const { seen } = pass;
	return (
		<p className={css.dim}>
			Seen: {seen.nodes_alive} of {seen.nodes} nodes alive, {seen.agents} placed agents, {seen.replicas_ready} of{" "}
			{seen.replicas_wanted} replicas ready ({seen.replicas_assigned} assigned), {seen.waiting} invocations waiting for
			a node.
		</p>
	);
}

/** Why no other node: what each one is now; the reasons of what was held are the server's, in its sentence. */
function Others({
	tenant,
	actions,
	nodes,
}: {
	tenant: string;
	actions: readonly Action[];
	nodes: Brain["nodes"];
}): ReactNode {
	if (!actions.some((action) => action.kind === "place" || action.kind === "hold")) return null;
	const chosen = new Set(actions.flatMap((action) => (action.to ? [action.to] : [])));
	const others = nodes.filter((node) => !chosen.has(node.node_id));
	if (others.length === 0) return null;
	return (
		<details open>
			<summary>The other nodes, as they are now</summary>
			<ul className={css.others}>
				{others.map((node) => (
					<li key={node.node_id}>
						<Link to="/t/$tenant/nodes/$node" params={{ tenant, node: node.node_id }}>
							{node.name}
						</Link>{" "}
						{closedBy(node)}
					</li>
				))}
			</ul>
		</details>
	);
}

/** What keeps a node from being given something, or its room. */
export function closedBy(node: Brain["nodes"][number]): string {
	if (node.status === "offline") return "silent: takes nothing";
	if (node.status === "registered") return "never seen: takes nothing";
	if (node.status === "deaf") return "deaf: does not take on what it is told";
	if (node.mode === "sleep") return "asleep: takes nothing";
	if (node.drained) return node.replicas > 0 ? "draining: takes nothing new" : "drained: takes nothing";
	const whom = node.mode === "private" ? `, only for agents of ${node.owner}` : "";
	return `${node.replicas} of ${node.slots} slots have replicas${whom}`;
}
