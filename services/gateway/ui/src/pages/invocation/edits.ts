/** What stands in a field of the fork dialog at first, and what the server would refuse of it. Pure. */
import type { Schema } from "../../api/client";
import type { Body } from "./body";
import type { EditKind } from "./forecast";
import { at, indented, members, parsed, type Range, slice, valueAt } from "./slices";
import type { Step } from "./steps";

export type Kind = EditKind | "nothing";
export type Spec = Schema["AgentSpec"] | null | undefined;

export const NAMES: Record<Kind, string> = {
	nothing: "nothing",
	instructions: "instructions",
	model: "model",
	prompt: "prompt",
	output: "result",
};

/** What stands in the field before somebody types: a text, or JSON; `undefined` while it is read. */
export function startOf(kind: Kind, step: Step | undefined, body: Body | undefined, spec: Spec): string | undefined {
	switch (kind) {
		case "nothing":
			return "";
		case "instructions":
			return spec === undefined ? undefined : (spec?.instructions ?? "");
		case "model":
			return spec === undefined ? undefined : (spec?.model?.name ?? "");
		case "prompt": {
			const messages = body && at(body.input, ["messages"]);
			return messages && body && indented(slice(body.input, messages));
		}
		case "output": {
			const output = body?.output;
			if (output === undefined) return undefined;
			// A model's answer without calls is its text: nobody writes escapes by hand.
			const hasCalls = at(output, ["tool_calls"]) !== undefined;
			const text = step?.kind === "model" && !hasCalls ? at(output, ["text"]) : undefined;
			return text === undefined ? indented(output) : slice(output, text);
		}
	}
}

/** What the server would refuse, said while it is typed. */
export function mistakeIn(kind: Kind, text: string): string | undefined {
	if (kind === "model" && text.trim() === "") return "name a model";
	if (kind !== "prompt" && kind !== "output") return undefined;
	try {
		const value: unknown = JSON.parse(text);
		if (kind === "prompt" && !(Array.isArray(value) && value.length > 0)) return "a list of messages, each with role and content";
		return undefined;
	} catch (error) {
		return error instanceof Error ? error.message : String(error);
	}
}

/** A message of a prompt, whose text can be edited by itself. */
export interface Editable {
	readonly role: string;
	/** `undefined` where the content is no text. */
	readonly text: string | undefined;
	/** Of the content, within the JSON of the prompt. */
	readonly content: Range | undefined;
}

/** `undefined`: the JSON is not a list of messages at the moment. */
export function messagesOf(json: string): readonly Editable[] | undefined {
	if (mistakeIn("prompt", json) !== undefined) return undefined;
	return members(json, valueAt(json, 0)).map(({ value }) => {
		const fields = members(json, value);
		const role = fields.find((field) => field.key === "role")?.value;
		const content = fields.find((field) => field.key === "content")?.value;
		const read = content === undefined ? undefined : parsed(json, content);
		return {
			role: role === undefined ? "?" : String(parsed(json, role)),
			text: typeof read === "string" ? read : undefined,
			content,
		};
	});
}

/** The same prompt with another text in one message: every other byte stays. */
export function withText(json: string, message: Editable, text: string): string {
	if (!message.content) return json;
	const { start, end } = message.content;
	return json.slice(0, start) + JSON.stringify(text) + json.slice(end);
}
