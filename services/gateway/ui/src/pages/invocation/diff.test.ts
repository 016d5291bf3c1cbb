import { describe, expect, it } from "vitest";
import { diff, likeness, lineDiff, textDiff } from "./diff";

const told = (from: string, to: string) =>
	diff([...from], [...to]).map(({ kind, items }) => `${{ same: "=", gone: "-", new: "+" }[kind]}${items.join("")}`);

describe("the shortest edit", () => {
	it.each([
		["", "", []],
		["abc", "abc", ["=abc"]],
		["", "ab", ["+ab"]],
		["ab", "", ["-ab"]],
		["abc", "axc", ["=a", "-b", "+x", "=c"]],
		["abcabba", "cbabac", ["-ab", "=c", "+b", "=ab", "-b", "=a", "+c"]],
	])("from %j to %j", (from, to, expected) => {
		const made = told(from, to);
		const edits = (parts: string[]) =>
			parts.filter((part) => !part.startsWith("=")).reduce((sum, part) => sum + part.length - 1, 0);
		expect(edits(made)).toBe(edits(expected));
	});

	it("gives back both sides, whatever they are", () => {
		let seed = 7;
		const random = (below: number) => {
			seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
			return seed % below;
		};
		for (let round = 0; round < 300; round += 1) {
			const some = () => Array.from({ length: random(14) }, () => "abc".charAt(random(3)));
			const [from, to] = [some(), some()];
			const parts = diff(from, to);
			expect(parts.flatMap((part) => (part.kind === "new" ? [] : part.items))).toEqual(from);
			expect(parts.flatMap((part) => (part.kind === "gone" ? [] : part.items))).toEqual(to);
		}
	});

	it("gives up on what nobody reads, and still gives back both sides", () => {
		const from = Array.from({ length: 3_000 }, (_, index) => index);
		const to = from.map((value) => -value - 1);
		expect(diff(from, to).map((part) => part.kind)).toEqual(["gone", "new"]);
	});
});

it("shows the words that changed", () => {
	expect(textDiff("Pay invoice 88 now", "Pay invoice 89, now")).toEqual([
		{ kind: "same", text: "Pay invoice " },
		{ kind: "gone", text: "88" },
		{ kind: "new", text: "89," },
		{ kind: "same", text: " now" },
	]);
	expect(lineDiff("a\nb", "a\nc").map((piece) => piece.kind)).toEqual(["same", "gone", "new"]);
});

it("measures how alike two texts are", () => {
	expect(likeness(textDiff("one two", "one two"))).toBe(1);
	expect(likeness(textDiff("one", "two"))).toBe(0);
	expect(likeness(textDiff("one two three", "one two four"))).toBeGreaterThan(0.5);
});
