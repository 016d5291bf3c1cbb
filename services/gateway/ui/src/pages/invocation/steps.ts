/** Words and groups of steps, and what happened between them. Pure. */
import type { Schema } from "../../api/client";
import { span } from "../../app/time";
import type { Group } from "./search";

/** A step without its bodies. */
export type Step = Omit<Schema["Step"], "input" | "output">;
export type Invocation = Schema["Invocation"];
export type Moment = Schema["Moment"];
type Kind = Step["kind"];

const GROUP: Record<Kind, Group> = {
	"context.messages": "context",
	"context.memories": "context",
	model: "model",
	tool: "tool",
	child: "tool",
	timer: "wait",
	signal: "wait",
	approval: "wait",
	"message.post": "other",
	"memory.store": "other",
	noop: "other",
};

export function groupOf(kind: Kind): Group {
	return GROUP[kind];
}

/** What a step is, in few words: `model gpt-4`, `approval of pay`. */
export function titleOf(step: Pick<Step, "kind" | "name">): string {
	switch (step.kind) {
		case "model":
			return `model ${step.name}`;
		case "approval":
			return `approval of ${step.name}`;
		case "child":
			return `agent ${step.name}`;
		case "tool":
		case "timer":
		case "signal":
			return step.name;
		default:
			return step.kind === step.name ? step.kind.replace(".", " ") : `${step.kind} ${step.name}`;
	}
}

export const CLASS_WORDS: Record<Step["effect"], string> = {
	pure: "pure: may run again freely",
	idempotent: "idempotent: runs again under the same key",
	at_most_once: "at most once: never runs again by itself",
};

/** Whether a step stands for waiting, not for work. */
export function isWait(step: Pick<Step, "kind">): boolean {
	return step.kind === "timer" || step.kind === "signal" || step.kind === "approval";
}

/** What failed; an approval that was refused, or a child that failed, says it in its output. */
export function hasFailed(step: Pick<Step, "error">): boolean {
	return step.error !== null && step.error !== undefined;
}

/** Milliseconds; of an open step until `now`. */
export function tookMs(step: Pick<Step, "started_at" | "ended_at">, now: number): number {
	const end = step.ended_at ? Date.parse(step.ended_at) : now;
	return Math.max(0, end - Date.parse(step.started_at));
}

/** `waited 2 h 14 min: approved by ann "checked"`; `waits for approval of pay`. */
export function waitWords(step: Step, history: readonly Moment[], now: number): string | undefined {
	if (!isWait(step) && step.kind !== "child") return undefined;
	const about = { timer: "the time", approval: "a person", signal: `signal ${step.name}`, child: step.name };
	const what = about[step.kind as keyof typeof about];
	const took = span(tookMs(step, now));
	if (!step.ended_at) return `waits ${took} for ${what}`;
	const ended = endedBy(step, history);
	return ended ? `waited ${took}: ${ended}` : `waited ${took} for ${what}`;
}

function endedBy(step: Step, history: readonly Moment[]): string | undefined {
	const last = history.findLast((moment) => "step" in moment && moment.step === step.number);
	if (last?.what === "decided") {
		return `${last.approved ? "approved" : "denied"} by ${last.by}${last.note ? ` “${last.note}”` : ""}`;
	}
	if (last?.what === "resolved") return `${RESOLVED[last.how] ?? last.how}, said ${last.by}`;
	if (last?.what === "child_ended") return `it ${last.outcome}`;
	if (step.kind === "timer") return "its time came";
	if (step.kind !== "signal") return undefined;
	const end = Date.parse(step.ended_at ?? "");
	const signal = history.findLast((moment) => moment.what === "signalled" && Date.parse(moment.at) <= end);
	return signal?.what === "signalled" ? `${signal.name} from ${signal.by}` : undefined;
}

const RESOLVED: Record<string, string> = {
	run_again: "it had not happened and runs again",
	done: "it had happened",
	failed: "it is taken as failed",
};

/** Something between steps that a reader must know, as one line before the step that it precedes. */
export interface Note {
	readonly seq: number;
	/** Milliseconds since 1970. */
	readonly at: number;
	readonly kind: "fork" | "takeover" | "pause" | "cancel" | "merge";
	readonly text: string;
}

/**
 * Where it was forked, takeovers, pauses, cancels and merges; a claim after a wait or a release is nothing to tell.
 * `source`: of a fork.
 */
export function notesOf(
	history: readonly Moment[],
	steps: readonly Step[],
	source?: Invocation["forked_from"],
): Note[] {
	const notes: Note[] = [];
	let held: string | undefined;
	for (const moment of history) {
		const note = (kind: Note["kind"], text: string) =>
			notes.push({ seq: moment.seq, at: Date.parse(moment.at), kind, text });
		switch (moment.what) {
			case "accepted":
				if (source && source.step > 1) note("fork", `forked from …${source.invocation.slice(-6)}, read ${upTo(source.step - 1)}`);
				break;
			case "claimed": {
				if (held !== undefined) note("takeover", `${moment.holder} took over${from(held, moment.holder)}${read(moment, steps)}`);
				held = moment.holder;
				break;
			}
			case "waiting":
				held = undefined;
				break;
			case "released":
				if (moment.reason !== "paused") note("takeover", `${held ?? "the worker"} let go: ${moment.reason.replaceAll("_", " ")}`);
				held = undefined;
				break;
			case "paused":
			case "resumed":
				note("pause", `${moment.what} by ${moment.by}${moment.reason ? `: ${moment.reason}` : ""}`);
				break;
			case "cancel_requested":
				note("cancel", `cancel asked by ${moment.by}: ${moment.reason}`);
				break;
			case "merged":
				note("merge", `a later message of the session joined: ${moment.invocation}`);
				break;
			default:
		}
	}
	return notes;
}

function from(before: string, now: string): string {
	return before === now ? "" : ` from ${before}`;
}

/** Which steps the new holder read instead of running them. */
function read(moment: Moment, steps: readonly Step[]): string {
	const at = Date.parse(moment.at);
	const open = steps.find((step) => !step.ended_at || Date.parse(step.ended_at) > at);
	const last = (open?.number ?? (steps.at(-1)?.number ?? 0) + 1) - 1;
	if (last < 1) return ", nothing was recorded yet";
	return `, read ${upTo(last)}`;
}

function upTo(last: number): string {
	return last === 1 ? "step 1" : `1–${last}`;
}

/** What is told of a fork's steps: those that it took over were waited for and decided in its source. */
export function withSource(own: readonly Moment[], source: readonly Moment[] | undefined, from: number): readonly Moment[] {
	if (!source) return own;
	const inherited = source.filter((moment) => !("step" in moment) || moment.step < from);
	return [...inherited, ...own];
}

/** The next step after `number` that failed, round about. */
export function nextFailure(steps: readonly Step[], number: number): Step | undefined {
	return steps.find((step) => step.number > number && hasFailed(step)) ?? steps.find(hasFailed);
}

/** The step to look at while it runs: what reads before and writes after the work is passed over. */
export function newest(steps: readonly Step[]): number | undefined {
	const work = steps.findLast((step) => groupOf(step.kind) !== "context" && groupOf(step.kind) !== "other");
	return (work ?? steps.at(-1))?.number;
}

/** The step that a reader wants to see first: the first failure of what failed, what waits, else the last one. */
export function firstShown(invocation: Invocation, steps: readonly Step[]): number | undefined {
	const waits = invocation.waits_for?.find((item) => item.on === "approval" || item.on === "ambiguous");
	if (waits) return waits.step;
	const isBad = invocation.state === "failed" || invocation.state === "dead";
	const failed = isBad ? steps.findLast(hasFailed) : undefined;
	const answered = steps.findLast((step) => step.kind === "model");
	return (failed ?? answered ?? steps.at(-1))?.number;
}
