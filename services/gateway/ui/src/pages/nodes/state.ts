/** What a node is said to be: one word each, with its reason. Silent, deaf, draining and degraded never share one. */
import type { Schema } from "../../api/client";

export type NodeRecord = Schema["NodeRecord"];
export type Brain = Schema["Brain"];
export type Pass = Schema["Pass"];

export type NodeWord = "online" | "silent" | "deaf" | "draining" | "drained" | "degraded" | "asleep" | "never seen";

export interface NodeSaid {
	readonly word: NodeWord;
	/** Why, and what became of it; empty where the word says all. */
	readonly why: string;
}

/** The worst that is true of it. `brain` knows of deaf ones, and its passes of what was moved away. */
export function saidOf(node: NodeRecord, brain: Brain | undefined): NodeSaid {
	const seen = brain?.nodes.find((other) => other.node_id === node.node_id);
	if (node.status === "registered") return { word: "never seen", why: "it joined and has sent no heartbeat yet" };
	if (node.status === "offline") return { word: "silent", why: silence(node, brain) };
	if (seen?.status === "deaf") {
		return { word: "deaf", why: "it sends heartbeats, but does not take on its assignment" };
	}
	if (node.drained) {
		const left = seen?.replicas ?? node.replicas.length;
		return left === 0
			? { word: "drained", why: "nothing is placed here until the drain is taken back" }
			: { word: "draining", why: `${counted(left, "replica")} to go` };
	}
	if (node.mode === "sleep") return { word: "asleep", why: "it takes no work in this mode" };
	const failed = node.replicas.filter((replica) => replica.state === "failed");
	const first = failed[0];
	if (first) {
		const detail = first.detail ? `: ${first.detail}` : "";
		const others = failed.length > 1 ? ` and ${failed.length - 1} more` : "";
		return { word: "degraded", why: `${first.agent} v${first.version} failed${detail}${others}` };
	}
	return { word: "online", why: "" };
}

function silence(node: NodeRecord, brain: Brain | undefined): string {
	const moved = brain ? movedFrom(node, brain.passes) : 0;
	const left = brain?.replicas.filter((replica) => replica.node === node.node_id).length ?? 0;
	const parts = [moved > 0 ? `${moved} moved` : "", left > 0 ? `${counted(left, "replica")} still assigned` : ""];
	return parts.filter(Boolean).join(", ") || "nothing was placed on it";
}

/** Replicas that passes placed elsewhere since it was seen last. */
export function movedFrom(node: NodeRecord, passes: readonly Pass[]): number {
	const since = node.last_seen_at ? Date.parse(node.last_seen_at) : 0;
	const later = passes.filter((pass) => Date.parse(pass.at) >= since);
	const actions = later.flatMap((pass) => pass.actions);
	return actions.filter(
		(action) => action.kind === "place" && action.result === "applied" && action.from === node.node_id,
	).length;
}

export function counted(count: number, one: string, many = `${one}s`): string {
	return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** Whose it is, as the one who looks at it sees it: an owner is named as the credential carries it. */
export function isOwn(node: Pick<NodeRecord, "owner">, actor: string): boolean {
	return node.owner === actor || actor === `user:${node.owner}`;
}

export interface NodeFilter {
	readonly mode?: string;
	readonly whose?: string;
	readonly q?: string;
}

export function matches(node: NodeRecord, filter: NodeFilter, actor: string): boolean {
	if (filter.mode !== undefined && node.mode !== filter.mode) return false;
	if (filter.whose !== undefined && (filter.whose === "own") !== isOwn(node, actor)) return false;
	if (filter.q === undefined) return true;
	const labels = Object.entries(node.labels).map(([name, value]) => `${name}=${value}`);
	const all = [node.node_id, node.name, node.owner, node.health?.hostname ?? "", ...labels];
	const sought = filter.q.toLowerCase();
	return all.some((text) => text.toLowerCase().includes(sought));
}
