/** What passes say, arranged for reading: per agent what is wanted and had, and passes that did nothing folded. */
import type { Schema } from "../../api/client";

export type Brain = Schema["Brain"];
export type Pass = Schema["Pass"];
export type Action = Pass["actions"][number];

/** A pass that did or tried something, or several in a row that did not. */
export type Entry =
	| { readonly kind: "pass"; readonly pass: Pass; readonly actions: readonly Action[] }
	| { readonly kind: "idle"; readonly passes: readonly Pass[] };

/** A pass is idle when it only says again what still has to wait. */
export function isIdle(pass: Pass): boolean {
	return pass.error == null && pass.actions.every((action) => action.result === "held");
}

/** Newest first, as read. With `agent` only what is about it; `open` is never folded away. */
export function folded(passes: readonly Pass[], agent: string | undefined, open: string | undefined): Entry[] {
	const entries: Entry[] = [];
	let idle: Pass[] = [];
	const flush = () => {
		if (idle.length > 0) entries.push({ kind: "idle", passes: idle });
		idle = [];
	};
	for (const pass of passes) {
		const about = pass.actions.filter((action) => agent === undefined || action.agent === agent);
		const isOpen = open !== undefined && pass.id === open;
		if (!isOpen && isIdle({ ...pass, actions: about })) {
			idle.push(pass);
			continue;
		}
		flush();
		entries.push({ kind: "pass", pass, actions: about });
	}
	flush();
	return entries;
}

export interface AgentRow {
	readonly agent: string;
	readonly version: number;
	readonly want: string;
	/** Replicas: `ready` of `wanted` answer with the published version. */
	readonly wanted: number;
	readonly ready: number;
	readonly have: readonly { readonly node: string | undefined; readonly words: string }[];
	readonly drift: string;
	/** Since when passes say so, of those that were read. */
	readonly since: string | undefined;
	readonly why: string;
	readonly next: string | undefined;
	readonly waiting: number;
	readonly running: number;
}

/** `passes` newest first. */
export function agentRows(brain: Brain, passes: readonly Pass[]): AgentRow[] {
	const names = new Map(brain.nodes.map((node) => [node.node_id, node.name]));
	const silent = new Set(brain.nodes.filter((node) => node.status === "offline").map((node) => node.node_id));
	const isSilent = (replica: Brain["replicas"][number]) => replica.node != null && silent.has(replica.node);
	return brain.agents.map((agent) => {
		const replicas = brain.replicas.filter((replica) => replica.agent === agent.agent);
		const current = replicas.filter((replica) => replica.version === agent.version && replica.state !== "stopping");
		const ready = current.filter((replica) => replica.state === "ready" && !isSilent(replica)).length;
		const lost = current.find(isSilent);
		const known = lost?.node == null ? "" : `${names.get(lost.node) ?? lost.node} is silent`;
		const last = passes[0]?.actions.find((action) => action.agent === agent.agent);
		const drift = driftOf(agent, current.length, ready, replicas.length - current.length);
		return {
			agent: agent.agent,
			version: agent.version,
			want: `${agent.wanted} × v${agent.version}`,
			wanted: agent.wanted,
			ready,
			have: replicas.map((replica) => ({
				node: replica.node ?? undefined,
				words: [
					`v${replica.version}`,
					replica.node ? (names.get(replica.node) ?? replica.node) : "a node of somebody else",
					isSilent(replica) ? "silent" : replica.state === "ready" ? "" : replica.state,
					replica.detail,
				]
					.filter(Boolean)
					.join(" "),
			})),
			drift,
			since: drift === "" ? undefined : sinceOf(agent.agent, last, passes),
			why: drift === "" ? "" : (last?.because ?? known),
			next: drift === "" ? undefined : (last?.next_try_at ?? undefined),
			waiting: agent.waiting,
			running: agent.running,
		};
	});
}

function driftOf(agent: Brain["agents"][number], current: number, ready: number, old: number): string {
	const parts: string[] = [];
	const missing = agent.wanted - current;
	if (missing > 0) parts.push(`${missing} missing`);
	if (missing < 0) parts.push(`${-missing} too many`);
	if (current > ready) parts.push(`${current - ready} not ready`);
	if (old > 0) parts.push(`${old} of another version or stopping`);
	if (agent.wanted > 0 && agent.serving == null) parts.push("not served");
	else if (agent.serving != null && agent.serving !== agent.version) parts.push(`served by v${agent.serving}`);
	return parts.join(", ");
}

/** The oldest of the newest passes that all say the same of the agent. */
function sinceOf(agent: string, last: Action | undefined, passes: readonly Pass[]): string | undefined {
	if (last === undefined) return undefined;
	let since: string | undefined;
	for (const pass of passes) {
		if (!pass.actions.some((action) => action.agent === agent && action.sentence === last.sentence)) break;
		since = pass.at;
	}
	return since;
}
