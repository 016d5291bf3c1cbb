import { expect, it } from "vitest";
import { type Comparison, delta, nextDifference, paired } from "./pairing";

const digest = (kind: string, name: string, short_text = "") => ({
	kind,
	name,
	short_text,
	took_ms: 1,
	usage: { input_tokens: 1, output_tokens: 1, cost_usd: 0 },
});

function compared(left: string[][], right: string[][], shared: number, differs: Record<number, string[]> = {}): Comparison {
	const steps = Array.from({ length: Math.max(left.length, right.length) }, (_, index) => {
		const side = (of: string[][]) => {
			const [kind, name, text] = of[index] ?? [];
			return kind && name ? digest(kind, name, text) : null;
		};
		return { step: index + 1, left: side(left), right: side(right), differs: differs[index + 1] ?? [] };
	});
	return { shared_steps: shared, steps } as unknown as Comparison;
}

it("pairs by kind and name, also when one side took a step more", () => {
	const left = [["model", "a"], ["tool", "look"], ["tool", "pay"], ["model", "a", "done"]];
	const right = [["model", "b"], ["tool", "pay"], ["model", "b", "paid"]];
	const { pairs, first } = paired(compared(left, right, 0, { 1: ["name"] }));
	expect(pairs.map((pair) => [pair.left?.number, pair.right?.number])).toEqual([
		[1, 1],
		[2, undefined],
		[3, 2],
		[4, 3],
	]);
	expect(pairs.map((pair) => pair.differs)).toEqual([["name"], ["only left"], [], ["name", "output"]]);
	expect(first).toBe(0);
	expect(nextDifference(pairs, 0)).toBe(1);
	expect(nextDifference(pairs, 1)).toBe(3);
	expect(nextDifference(pairs, 3)).toBe(0);
});

it("folds what both read, and finds the first difference behind it", () => {
	const steps = [["model", "a"], ["tool", "x"], ["model", "a"]];
	const result = paired(compared(steps, steps, 2, { 3: ["output"] }));
	expect([result.shared, result.first, result.pairs.length]).toEqual([2, 0, 1]);
	expect(paired(compared(steps, steps, 3)).first).toBeUndefined();
});

it("tells a difference with its sign", () => {
	const ms = (value: number) => `${value} ms`;
	expect([delta(1, 3, ms), delta(3, 1, ms), delta(3, 3, ms), delta(undefined, 3, ms)]).toEqual(["+2 ms", "−2 ms", "", ""]);
});
