/** Two invocations side by side: the shared prefix folded, then steps paired by kind and name. Pure. */
import type { Schema } from "../../api/client";
import { diff } from "./diff";

export type Digest = Schema["StepDigest"];
export type Comparison = Schema["Comparison"];

export interface Side extends Digest {
	readonly number: number;
}

export interface Pair {
	readonly key: string;
	readonly left?: Side;
	readonly right?: Side;
	/** What differs, in words; empty: the same. */
	readonly differs: readonly string[];
}

export interface Paired {
	/** Steps that both read from one recording. */
	readonly shared: number;
	readonly pairs: readonly Pair[];
	/** Index of the first pair that differs. */
	readonly first: number | undefined;
}

/** A model may be another one and still be the same call; a tool of another name is another call. */
function keyOf(side: Side): string {
	return side.kind === "model" ? "model" : `${side.kind} ${side.name}`;
}

export function paired(comparison: Comparison): Paired {
	const shared = comparison.shared_steps;
	const differs = new Map(comparison.steps.map((step) => [step.step, step.differs]));
	const side = (which: "left" | "right") =>
		comparison.steps.flatMap((step) => {
			const digest = step[which];
			return digest && step.step > shared ? [{ ...digest, number: step.step }] : [];
		});
	const [left, right] = [side("left"), side("right")];
	const pairs: Pair[] = [];
	let [l, r] = [0, 0];
	const one = (kept: { left?: Side; right?: Side }, said: readonly string[]) =>
		pairs.push({ ...kept, differs: said, key: `${kept.left?.number ?? ""}-${kept.right?.number ?? ""}` });
	for (const part of diff(left.map(keyOf), right.map(keyOf))) {
		for (const _ of part.items) {
			const [a, b] = [left[l], right[r]];
			if (part.kind === "gone" && a) one({ left: a }, ["only left"]);
			else if (part.kind === "new" && b) one({ right: b }, ["only right"]);
			else if (a && b) one({ left: a, right: b }, said(a, b, differs));
			if (part.kind !== "new") l += 1;
			if (part.kind !== "gone") r += 1;
		}
	}
	const first = pairs.findIndex((pair) => pair.differs.length > 0);
	return { shared, pairs, first: first < 0 ? undefined : first };
}

/** The server compared steps of the same number; others are held against each other by what it tells of them. */
function said(left: Side, right: Side, differs: ReadonlyMap<number, readonly string[]>): readonly string[] {
	if (left.number === right.number) return differs.get(left.number) ?? [];
	const words = [left.name === right.name ? "" : "name", left.short_text === right.short_text ? "" : "output"];
	return words.filter((word) => word !== "");
}

/** `+1.2 s`, `−312 ms`; nothing where it is the same. */
export function delta(left: number | undefined, right: number | undefined, said: (value: number) => string): string {
	if (left === undefined || right === undefined || left === right) return "";
	return `${right > left ? "+" : "−"}${said(Math.abs(right - left))}`;
}

/** The next pair after `index` that differs, round about. */
export function nextDifference(pairs: readonly Pair[], index: number): number | undefined {
	const is = (pair: Pair) => pair.differs.length > 0;
	const later = pairs.findIndex((pair, at) => at > index && is(pair));
	if (later >= 0) return later;
	const any = pairs.findIndex(is);
	return any < 0 ? undefined : any;
}
