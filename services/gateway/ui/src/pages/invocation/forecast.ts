/** What a fork would do, in words: before it, at it, and of the source's later steps as a forecast. Pure. */
import type { Schema } from "../../api/client";

export type ForkStep = Schema["ForkStep"];
export type EditKind = "instructions" | "model" | "prompt" | "output";

/** One step's fate. `from`: the step that the fork begins at. */
export function fateWords(step: ForkStep, from: number): string {
	if (step.fate === "read") return "read, free";
	if (step.fate === "replaced") return step.because.includes("prompt") ? "runs edited, costs" : "replaced, free";
	switch (step.kind) {
		case "approval":
			return "a person is asked again";
		case "timer":
		case "signal":
			return "is waited for again";
		case "child":
			return "the agent is called again, costs";
		case "model":
			return step.step === from ? "runs edited, costs" : "runs, costs";
		default:
	}
	switch (step.effect) {
		case "pure":
			return "runs";
		case "idempotent":
			return "runs under the branch's own keys: the world sees it again";
		case "at_most_once":
			return "answered from the recording, or asks";
	}
}

/** What runs for real if the fork takes the path of its source. */
export interface Counted {
	readonly models: number;
	readonly tools: number;
	readonly agents: number;
	readonly asked: number;
	readonly read: number;
}

export function counted(steps: readonly ForkStep[]): Counted {
	const count = (is: (step: ForkStep) => boolean) => steps.filter(is).length;
	const runs = (step: ForkStep) => step.fate === "run" || (step.fate === "replaced" && step.because.includes("prompt"));
	return {
		models: count((step) => step.kind === "model" && runs(step)),
		tools: count((step) => step.kind === "tool" && runs(step)),
		agents: count((step) => step.kind === "child" && runs(step)),
		asked: count((step) => step.fate === "asked"),
		read: count((step) => step.fate === "read"),
	};
}

/** `Fork: 2 model calls, 1 real tool call, 1 question`. */
export function buttonWords(steps: readonly ForkStep[]): string {
	const { models, tools, agents, asked } = counted(steps);
	const parts = [
		several(models, "model call"),
		several(tools, "real tool call"),
		several(agents, "agent call"),
		several(asked, "may ask", "may ask"),
	].filter((part) => part !== undefined);
	return parts.length > 0 ? `Fork: ${parts.join(", ")}` : "Fork: nothing recorded runs again";
}

function several(count: number, one: string, many = `${one}s`): string | undefined {
	return count === 0 ? undefined : `${count} ${count === 1 ? one : many}`;
}

/** What can be edited at a step of this kind; what comes first is offered first. */
export function editsOf(kind: string | undefined): readonly EditKind[] {
	if (kind === "model") return ["prompt", "output", "instructions", "model"];
	return kind === undefined ? ["instructions", "model"] : ["output", "instructions", "model"];
}

/** The body of a fork request. An output goes as it was written, so that no digit is lost. */
export function forkBody(from: number, kind: EditKind | undefined, text: string): string {
	if (kind === undefined) return JSON.stringify({ from_step: from });
	const written = kind === "instructions" || kind === "model" ? JSON.stringify(text) : text;
	return `{"from_step":${from},"edit":{${JSON.stringify(kind)}:${written}}}`;
}
