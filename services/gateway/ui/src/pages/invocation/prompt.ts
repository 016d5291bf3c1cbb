/** What a model saw, against what it saw at the step before: new, kept, gone, and words within what was edited. Pure. */
import { likeness, type Piece, textDiff } from "./diff";

export interface Message {
	readonly role: string;
	readonly content: unknown;
	readonly tool_calls?: readonly unknown[];
	readonly tool_call_id?: string | null;
}

/** The input of a model step, as far as it tells of the prompt. */
export interface Asked {
	readonly prompt?: { readonly base: number | null; readonly keep: number; readonly new: readonly unknown[] };
	/** The whole prompt; left out where it is too long. */
	readonly messages?: readonly Message[];
	readonly messages_omitted_bytes?: number;
}

export type Seen =
	| { readonly kind: "kept"; readonly messages: readonly Message[] }
	| { readonly kind: "new"; readonly message: Message }
	| { readonly kind: "gone"; readonly message: Message }
	| { readonly kind: "edited"; readonly message: Message; readonly words: readonly Piece[] };

/** Less alike than this, a message is another one. */
const ALIKE = 0.5;
/** Longer texts are not told word by word. */
const WORDS_TEXT_MAX = 20_000;

/** `before`: the whole prompt of the step that this one keeps from. */
export function seen(asked: Asked, before: readonly Message[]): Seen[] {
	const messages = asked.messages ?? [];
	const keep = asked.prompt?.base === null || !asked.prompt ? 0 : Math.min(asked.prompt.keep, messages.length);
	const fresh = messages.slice(keep);
	const gone = before.slice(keep);
	const out: Seen[] = keep > 0 ? [{ kind: "kept", messages: messages.slice(0, keep) }] : [];
	let next = 0;
	for (const message of fresh) {
		const old = gone.findIndex((other, index) => index >= next && other.role === message.role);
		const words = old < 0 ? undefined : edited(gone[old] as Message, message);
		if (words === undefined) {
			out.push({ kind: "new", message });
			continue;
		}
		out.push(...gone.slice(next, old).map((other) => ({ kind: "gone", message: other }) as const));
		out.push({ kind: "edited", message, words });
		next = old + 1;
	}
	return [...out, ...gone.slice(next).map((message) => ({ kind: "gone", message }) as const)];
}

function edited(before: Message, now: Message): Piece[] | undefined {
	const [from, to] = [textOf(before.content), textOf(now.content)];
	if (from.length > WORDS_TEXT_MAX || to.length > WORDS_TEXT_MAX || from === "" || to === "") return undefined;
	const words = textDiff(from, to);
	return likeness(words) >= ALIKE ? words : undefined;
}

/** `2 new, 14 kept, 1 gone, 1 edited`; what is nought is left out. */
export function counted(of: readonly Seen[]): string {
	const count = (kind: Seen["kind"]) => of.filter((one) => one.kind === kind).length;
	const kept = of.reduce((sum, one) => sum + (one.kind === "kept" ? one.messages.length : 0), 0);
	const counts = [
		[count("new"), "new"],
		[count("edited"), "edited"],
		[kept, "kept"],
		[count("gone"), "gone"],
	] as const;
	const told = counts.filter(([number]) => number > 0).map(([number, word]) => `${number} ${word}`);
	return told.length > 0 ? told.join(", ") : "nothing";
}

/** Text of a content: blocks of text are joined, others are named. */
export function textOf(content: unknown): string {
	if (typeof content === "string") return content;
	if (content === null || content === undefined) return "";
	if (!Array.isArray(content)) return JSON.stringify(content);
	return content.map(blockText).join("\n");
}

/** Media are told by their type and size, never shown: they came from a model or from outside. */
function blockText(block: unknown): string {
	if (typeof block === "object" && block !== null && "text" in block && typeof block.text === "string") return block.text;
	const written = JSON.stringify(block) ?? "";
	const type = typeof block === "object" && block !== null && "type" in block ? String(block.type) : "block";
	return `[${type}, ${sizeOf(written.length)}]`;
}

/** `312 B`, `4.1 KB`, `5.2 MB`. */
export function sizeOf(bytes: number): string {
	if (bytes < 1_000) return `${bytes} B`;
	if (bytes < 1_000_000) return `${(bytes / 1_000).toPrecision(2)} KB`;
	return `${(bytes / 1_000_000).toPrecision(2)} MB`;
}
