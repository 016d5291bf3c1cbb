/** Whether an agent is well, and if not, why: one word and one reason from what the mesh knows. */
import type { Schema } from "../../api/client";
import type { AgentView, Pause } from "./data";

export type Word = "well" | "paused" | "not placed" | "short of replicas" | "failing" | "never published";

export interface Wellness {
	readonly word: Word;
	readonly why: string | undefined;
}

export interface Facts {
	readonly agent: AgentView;
	readonly pause: Pause | undefined;
	/** Of the reconciler; none where nothing is placed. */
	readonly placed: Schema["AgentState"] | undefined;
	/** Sentences of what differs from what should be. */
	readonly drift: readonly string[];
	readonly replicas: readonly Schema["ReplicaView"][];
	readonly counted: Schema["AgentOverview"] | undefined;
}

/** Share of ended invocations that failed from which an agent counts as failing. */
const FAILING_SHARE = 0.2;

export function wellness(facts: Facts): Wellness {
	const { agent, pause, placed, counted } = facts;
	if (!agent.status.published) return { word: "never published", why: "nothing runs until it is published" };
	if (pause) return { word: "paused", why: pause.reason ?? `by ${pause.by}` };
	if (placed && placed.ready < placed.wanted) {
		const word = placed.ready === 0 ? "not placed" : "short of replicas";
		return { word, why: reason(facts) };
	}
	const failed = counted ? counted.failed + counted.dead : 0;
	const ended = counted ? failed + counted.completed + counted.cancelled : 0;
	if (failed > 0 && failed >= ended * FAILING_SHARE) return { word: "failing", why: `${failed} of ${ended} in 24 h failed` };
	return { word: "well", why: undefined };
}

/** The reconciler's own sentence; else what a replica says of itself. */
function reason({ agent, drift, replicas }: Facts): string | undefined {
	const name = agent.metadata.name;
	const sentence = drift.find((one) => one.split(/[^\w-]+/).includes(name));
	if (sentence) return sentence.split(" because ")[1] ?? sentence;
	const troubled = replicas.find((replica) => replica.agent === name && replica.state !== "ready");
	return troubled ? troubled.detail || `a replica is ${troubled.state}` : undefined;
}

/** `1 of 2`; none where the agent is not placed on nodes. */
export function replicasText(placed: Facts["placed"]): string | undefined {
	return placed && `${placed.ready} of ${placed.wanted}`;
}

const ORDER: readonly Word[] = ["failing", "not placed", "short of replicas", "paused", "never published", "well"];

/** Unwell ones first, by name within. */
export function order(a: { name: string; word: Word }, b: { name: string; word: Word }): number {
	return ORDER.indexOf(a.word) - ORDER.indexOf(b.word) || (a.name < b.name ? -1 : 1);
}
