/** The index of JSON texts, against the language's own parser. */
import { expect, it } from "vitest";
import { indexJson, Malformed } from "./json-index";
import { countOf, find, type Json, pathOf, visible, written } from "./json-rows";

const read = (text: string): Json => ({ text, cells: indexJson(text) });
const all = (json: Json) => Array.from({ length: json.cells.length / 7 }, (_, node) => node);

it("shows numbers as they were written", () => {
	const json = read('{"id": 9007199254740993, "e": 1.50E+2, "n": -0}');
	expect(all(json).map((node) => written(json, node))).toEqual([json.text, "9007199254740993", "1.50E+2", "-0"]);
});

it("knows paths and counts", () => {
	const json = read('{"items":[{"a b":1},[true,null]],"x":{}}');
	expect(all(json).map((node) => pathOf(json, node))).toEqual([
		"$",
		"$.items",
		"$.items[0]",
		'$.items[0]["a b"]',
		"$.items[1]",
		"$.items[1][0]",
		"$.items[1][1]",
		"$.x",
	]);
	expect([0, 1, 4, 7].map((node) => countOf(json, node))).toEqual([2, 2, 2, 0]);
});

it("skips the insides of what is folded and finds there all the same", () => {
	const json = read('{"a":{"b":"needle"},"c":2}');
	expect(visible(json, new Map([[1, false]]))).toEqual([0, 1, 3]);
	expect(find(json, "NEEDLE", 0)).toBe(2);
	expect(find(json, "nothing", 0)).toBe(-1);
});

it.each([
	"",
	"{",
	'{"a"}',
	"[1,]",
	"[1 2]",
	"01",
	"nul",
	'"open',
	"{} {}",
	'{"a":1,}',
	"1.",
	"{1:2}",
	"[}",
])("refuses %j as the language's own parser does", (text) => {
	expect(() => JSON.parse(text)).toThrow();
	expect(() => indexJson(text)).toThrow(Malformed);
});

it("agrees with the language's own parser on random documents", () => {
	let seed = 7;
	const random = (below: number) => {
		seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
		return seed % below;
	};
	const make = (depth: number): unknown => {
		const kind = random(depth > 4 ? 4 : 6);
		if (kind === 0) return random(1_000_000) / 7;
		if (kind === 1) return random(2) === 0;
		if (kind === 2) return null;
		if (kind === 3) return 'a"\\\n\u2028'.slice(0, random(6));
		const size = random(5);
		if (kind === 4) return Array.from({ length: size }, () => make(depth + 1));
		return Object.fromEntries(Array.from({ length: size }, (_, at) => [`k"${at}`, make(depth + 1)]));
	};
	for (let round = 0; round < 300; round++) {
		const value = make(0);
		const json = read(JSON.stringify(value, null, round % 3));
		for (const node of all(json)) {
			const path = pathOf(json, node);
			const steps = [...path.matchAll(/\.(\w+)|\[(\d+)\]|\[("(?:\\.|[^"])*")\]/g)];
			const got = steps.reduce<unknown>((from, [, plain, place, quoted]) => {
				const key = quoted === undefined ? (plain ?? Number(place)) : (JSON.parse(quoted) as string);
				return (from as Record<string, unknown>)[key as string];
			}, value);
			expect(JSON.parse(written(json, node))).toEqual(got);
		}
	}
});

it("reads what is deeper than a stack", () => {
	const deep = 50_000;
	expect(read("[".repeat(deep) + "]".repeat(deep)).cells.length).toBe(deep * 7);
});
