/** What an answer is while it is made: its events folded into texts and tool calls, in the order of its steps. */
import type { Schema } from "../../api/client";
import type { InvocationState } from "../../theme/tokens";

export type Step = Schema["Step"];
export type Invocation = Schema["Invocation"];

export interface TextBlock {
	readonly kind: "text";
	readonly step: number;
	readonly attempt: number;
	readonly text: string;
	/** Another try began: what was said counts no more. */
	readonly isVoid: boolean;
}

export interface StepBlock {
	readonly kind: "step";
	readonly step: number;
	readonly record: Step;
}

export type Block = TextBlock | StepBlock;

export interface Progress {
	readonly blocks: readonly Block[];
	/** As the last event said; none came yet. */
	readonly state: InvocationState | undefined;
	/** Fields of the invocation that its events told. */
	readonly told: Partial<Invocation>;
}

export const NOTHING: Progress = { blocks: [], state: undefined, told: {} };

/** Kinds of steps that a reader of a talk wants to see; the others are bookkeeping. */
const SHOWN = new Set(["tool", "approval", "child", "signal", "timer"]);

const STATES = new Set(["queued", "running", "waiting", "completed", "failed", "cancelled", "dead"]);

export function fold(progress: Progress, event: string, data: unknown): Progress {
	const said = (data ?? {}) as Record<string, unknown>;
	switch (event) {
		case "token":
			return withText(progress, Number(said.step), Number(said.attempt), String(said.text ?? ""));
		case "reset":
			return { ...progress, blocks: progress.blocks.map((block) => voided(block, Number(said.step))) };
		case "step.recorded":
			return recorded(progress, said as unknown as Step);
		default:
			return withState(progress, event, said);
	}
}

function withText(progress: Progress, step: number, attempt: number, text: string): Progress {
	const isOpen = (block: Block) => block.kind === "text" && block.step === step && block.attempt === attempt && !block.isVoid;
	const at = progress.blocks.findIndex(isOpen);
	const held = progress.blocks[at];
	if (held?.kind === "text") return { ...progress, blocks: progress.blocks.with(at, { ...held, text: held.text + text }) };
	// A new try voids those before it, also where its `reset` was not heard.
	const blocks = progress.blocks.map((block) => voided(block, step));
	return { ...progress, blocks: placed(blocks, { kind: "text", step, attempt, text, isVoid: false }) };
}

/** What a step said so far counts no more. */
function voided(block: Block, step: number): Block {
	return block.kind === "text" && block.step === step && !block.isVoid ? { ...block, isVoid: true } : block;
}

/** The record replaces what was streamed. */
function recorded(progress: Progress, record: Step): Progress {
	const step = record.number;
	if (record.kind === "model") {
		const text = (record.output as { text?: unknown } | null)?.text;
		const kept = progress.blocks.filter((block) => block.step !== step || (block.kind === "text" && block.isVoid));
		if (typeof text !== "string" || text === "") return { ...progress, blocks: kept };
		return { ...progress, blocks: placed(kept, { kind: "text", step, attempt: record.attempt, text, isVoid: false }) };
	}
	if (!SHOWN.has(record.kind)) return progress;
	const others = progress.blocks.filter((block) => block.step !== step);
	return { ...progress, blocks: placed(others, { kind: "step", step, record }) };
}

/** By step; within one, in the order of arrival. */
function placed(blocks: readonly Block[], block: Block): Block[] {
	const at = blocks.findIndex((other) => other.step > block.step);
	return at < 0 ? [...blocks, block] : blocks.toSpliced(at, 0, block);
}

function withState(progress: Progress, event: string, said: Record<string, unknown>): Progress {
	const verb = event.startsWith("invocation.") ? event.slice("invocation.".length) : "";
	if (!STATES.has(verb)) return progress;
	const told: Record<string, unknown> = { ...progress.told, state: verb };
	for (const name of ["output", "error", "usage", "provider", "reason", "waits_for"]) {
		if (said[name] !== undefined) told[name] = said[name];
	}
	if (verb !== "waiting") told.waits_for = [];
	return { ...progress, state: verb as InvocationState, told: told as Partial<Invocation> };
}

/** The blocks of what is recorded. */
export function blocksOf(steps: readonly Step[]): readonly Block[] {
	return steps.reduce((progress, step) => recorded(progress, step), NOTHING).blocks;
}

export function isEnded(state: InvocationState): boolean {
	return state === "completed" || state === "failed" || state === "cancelled" || state === "dead";
}

/** What the person said: the text of a payload, or what stands for it. */
export function saidIn(payload: unknown): string {
	if (typeof payload === "string") return payload;
	const held = payload as { text?: unknown; messages?: unknown } | null;
	if (typeof held?.text === "string") return held.text;
	const last = Array.isArray(held?.messages) ? (held.messages.at(-1) as { content?: unknown } | undefined) : undefined;
	if (typeof last?.content === "string") return last.content;
	return payload === null || payload === undefined ? "" : JSON.stringify(payload, null, 2);
}

/** What the agent answered. */
export function answerIn(output: unknown): string {
	if (typeof output === "string") return output;
	const text = (output as { text?: unknown } | null)?.text;
	if (typeof text === "string") return text;
	return output === null || output === undefined ? "" : JSON.stringify(output, null, 2);
}
