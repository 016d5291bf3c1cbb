/** Differences of lines. */
import { expect, it } from "vitest";
import { counted, diffLines, folded } from "./diff";

const shown = (before: string, after: string) =>
	diffLines(before, after).map(({ kind, text }) => ({ same: " ", gone: "-", new: "+" })[kind] + text);

it("says what went and what came", () => {
	expect(shown("a\nb\nc\n", "a\nx\nc\n")).toEqual([" a", "-b", "+x", " c"]);
	expect(shown("", "a\n")).toEqual(["+a"]);
	expect(shown("a\n", "a\n")).toEqual([" a"]);
	expect(shown("a\nb\nc\nd\n", "b\nd\ne\n")).toEqual(["-a", " b", "-c", " d", "+e"]);
});

it("leads from one text to the other, whatever they are", () => {
	let seed = 7;
	const random = (below: number) => {
		seed = (seed * 48_271) % 2_147_483_647;
		return seed % below;
	};
	const text = () => Array.from({ length: random(12) }, () => "abc"[random(3)]).map((line) => `${line}\n`).join("");
	for (let round = 0; round < 300; round++) {
		const [before, after] = [text(), text()];
		const diff = diffLines(before, after);
		const of = (kinds: string[]) => diff.filter(({ kind }) => kinds.includes(kind)).map((line) => `${line.text}\n`).join("");
		expect(of(["same", "gone"])).toBe(before);
		expect(of(["same", "new"])).toBe(after);
	}
});

it("numbers lines by the text that they are of, and counts", () => {
	const diff = diffLines("a\nb\n", "b\nc\n");
	expect(diff.map(({ before, after }) => [before, after])).toEqual([[1, undefined], [2, 1], [undefined, 2]]);
	expect(counted(diff)).toEqual({ gone: 1, fresh: 1 });
});

it("folds what is far from any change", () => {
	const before = Array.from({ length: 20 }, (_, at) => `line ${at}`).join("\n");
	const parts = folded(diffLines(before, before.replace("line 10", "changed")), 2);
	expect(parts.map(({ kind, lines }) => [kind, lines.length])).toEqual([["fold", 8], ["lines", 6], ["fold", 7]]);
});
