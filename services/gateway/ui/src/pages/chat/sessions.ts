/** Conversations from invocations: those of one agent and session are one, newest first. */
import type { Invocation } from "./fold";
import { answerIn, saidIn } from "./fold";

export interface Conversation {
	readonly agent: string;
	readonly session: string;
	/** What was said last. */
	readonly said: string;
	readonly at: string;
	readonly state: Invocation["state"];
	readonly count: number;
}

/** `items` newest first, as the list answers. */
export function conversations(items: readonly Invocation[]): Conversation[] {
	const found = new Map<string, Conversation>();
	for (const item of items) {
		// A channel's talk is found by its channel.
		if (!item.session || item.parent || item.entrypoint === "channel_message") continue;
		const key = `${item.agent}/${item.session}`;
		const known = found.get(key);
		if (known) {
			found.set(key, { ...known, count: known.count + 1 });
			continue;
		}
		const { agent, session, state, created_at: at } = item;
		found.set(key, { agent, session, state, at, said: saidIn(item.payload) || answerIn(item.output), count: 1 });
	}
	return [...found.values()];
}

/** In place where it is known; new ones at the front. */
export function patched(items: readonly Invocation[], item: Invocation): Invocation[] {
	const isKnown = items.some((old) => old.id === item.id);
	return isKnown ? items.map((old) => (old.id === item.id ? item : old)) : [item, ...items];
}

/** Characters of earlier talk that go along with a question. */
const BROUGHT_MAX = 96 * 1024;

/** The newest `recent` messages of ended turns, oldest first, as the agent is given them. */
export function brought(turns: readonly Invocation[], recent: number): { role: "user" | "assistant"; content: string }[] {
	const messages: { role: "user" | "assistant"; content: string }[] = [];
	let characters = 0;
	// Newest first.
	for (const turn of turns) {
		if (turn.state !== "completed") continue;
		const answer = (turn.output as { text?: unknown } | null)?.text;
		const said = saidIn(turn.payload);
		if (typeof answer !== "string" || said === "") continue;
		characters += said.length + answer.length;
		if (characters > BROUGHT_MAX || messages.length + 2 > recent) break;
		messages.unshift({ role: "user", content: said }, { role: "assistant", content: answer });
	}
	return messages;
}
