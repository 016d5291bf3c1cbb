/** Where a step lies from left to right: by order, all blocks equal, or by time, idle gaps folded. Pure. */
import { groupOf, isWait, type Step, tookMs } from "./steps";

/** Shares of the lane, 0 to 1. */
export interface Bar {
	readonly from: number;
	readonly to: number;
}

export interface Break {
	readonly at: number;
	readonly width: number;
	/** What is not shown. */
	readonly ms: number;
}

export interface Scale {
	readonly bars: ReadonlyMap<number, Bar>;
	readonly breaks: readonly Break[];
}

/** Blocks side by side; longer recordings begin again at the left, so that no block is too small to see. */
export const BLOCKS_MAX = 24;
/** A gap shorter than this is no break, in milliseconds. */
const GAP_MIN_MS = 1_000;
/** A gap shorter than this share of the work is no break. */
const GAP_SHARE = 0.25;
/** All breaks together take this share of the lane. */
const BREAKS_SHARE = 0.15;
const BREAK_MAX = 0.05;
const BAR_MIN = 0.004;

export interface Placed {
	readonly step: Step;
	/** Column by order, from 0. */
	readonly column: number;
	/** From 0: each model call begins one. */
	readonly turn: number;
	/** Runs beside others of its turn. */
	readonly bracket?: "top" | "middle" | "bottom";
}

/** Turns, columns and brackets: tools that one answer asked for stand in one column. */
export function placed(steps: readonly Step[]): Placed[] {
	const out: Placed[] = [];
	let [column, turn] = [-1, -1];
	for (let first = 0; first < steps.length; ) {
		const step = steps[first] as Step;
		if (!isCalled(step)) {
			if (step.kind === "model" || turn < 0) turn += 1;
			column += 1;
			out.push({ step, column, turn });
			first += 1;
			continue;
		}
		let end = first;
		while (end < steps.length && isCalled(steps[end] as Step)) end += 1;
		const group = steps.slice(first, end);
		column += 1;
		const late = (one: Step) => one.kind === "tool" && group.some((other) => isApprovalOf(other, one));
		for (const [index, one] of group.entries()) {
			const bracket = bracketOf(index, group.length);
			const place = { step: one, column: column + (late(one) ? 1 : 0), turn: Math.max(0, turn) };
			out.push(bracket ? { ...place, bracket } : place);
		}
		if (group.some(late)) column += 1;
		first = end;
	}
	return out;
}

function isCalled(step: Step): boolean {
	const group = groupOf(step.kind);
	return group === "tool" || group === "wait";
}

function isApprovalOf(approval: Step, call: Step): boolean {
	return approval.kind === "approval" && approval.name === call.name && approval.number < call.number;
}

function bracketOf(index: number, length: number): Placed["bracket"] {
	if (length < 2) return undefined;
	return index === 0 ? "top" : index === length - 1 ? "bottom" : "middle";
}

export function byOrder(places: readonly Placed[]): Scale {
	const columns = (places.at(-1)?.column ?? 0) + 1;
	const shown = Math.min(columns, BLOCKS_MAX);
	const bars = new Map<number, Bar>();
	for (const { step, column } of places) {
		const at = column % BLOCKS_MAX;
		bars.set(step.number, { from: at / shown, to: (at + 1) / shown });
	}
	return { bars, breaks: [] };
}

/** `now` ends what is open, in milliseconds since 1970. */
export function byTime(steps: readonly Step[], now: number): Scale {
	const spans = steps.map((step) => {
		const from = Date.parse(step.started_at);
		return { step, from, to: from + tookMs(step, now) };
	});
	const begin = Math.min(...ends(spans.map((one) => one.from)));
	const end = Math.max(...ends(spans.map((one) => one.to)));
	const work = merged(spans.filter(({ step }) => !isWait(step) && step.kind !== "child"));
	const worked = work.reduce((sum, one) => sum + one.to - one.from, 0);
	const gaps = idle(work, begin, end).filter((gap) => gap.to - gap.from > Math.max(GAP_MIN_MS, worked * GAP_SHARE));
	const each = gaps.length === 0 ? 0 : Math.min(BREAK_MAX, BREAKS_SHARE / gaps.length);
	const folded = gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0);
	const perMs = (1 - each * gaps.length) / Math.max(1, end - begin - folded);
	const place = (at: number) => {
		let [x, from] = [0, begin];
		for (const gap of gaps) {
			if (at <= gap.from) break;
			x += (gap.from - from) * perMs;
			const inside = Math.min(1, (at - gap.from) / (gap.to - gap.from));
			x += each * inside;
			from = gap.to;
			if (inside < 1) return x;
		}
		return x + Math.max(0, at - from) * perMs;
	};
	const bars = new Map<number, Bar>();
	for (const { step, from, to } of spans) {
		const left = Math.min(place(from), 1 - BAR_MIN);
		bars.set(step.number, { from: left, to: Math.max(left + BAR_MIN, Math.min(1, place(to))) });
	}
	const breaks = gaps.map((gap) => ({ at: place(gap.from), width: each, ms: gap.to - gap.from }));
	return { bars, breaks };
}

interface Span {
	readonly from: number;
	readonly to: number;
}

/** Not spread over arguments: an engine takes some 100,000 of them at most. */
function ends(values: readonly number[]): number[] {
	let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
	for (const value of values) {
		if (value < least) least = value;
		if (value > most) most = value;
	}
	return values.length === 0 ? [0] : [least, most];
}

function merged(spans: readonly Span[]): Span[] {
	const out: { from: number; to: number }[] = [];
	for (const { from, to } of [...spans].sort((a, b) => a.from - b.from)) {
		const last = out.at(-1);
		if (last && from <= last.to) last.to = Math.max(last.to, to);
		else out.push({ from, to });
	}
	return out;
}

function idle(work: readonly Span[], begin: number, end: number): Span[] {
	const gaps: Span[] = [];
	let from = begin;
	for (const one of work) {
		if (one.from > from) gaps.push({ from, to: one.from });
		from = Math.max(from, one.to);
	}
	if (end > from) gaps.push({ from, to: end });
	return gaps;
}
