import { expect, it } from "vitest";
import { withMemory } from "./data";
import { forgetCommand, forgetFilter, type Memory, parts, quoted, tagsOf } from "./score";

it("names the parts of a score that were used, with their places", () => {
	expect(parts({ vector: 0.4, vector_rank: 2, text: 0, fusion: null, recency: 0.5 })).toEqual([
		{ name: "meaning", value: 0.4, rank: 2 },
		{ name: "words", value: 0, rank: undefined },
		{ name: "recency", value: 0.5, rank: undefined },
	]);
});

it("forgets by what is filtered, and never by nothing", () => {
	expect(forgetFilter({ q: "tea", memory: "mem_1" })).toBeUndefined();
	expect(forgetFilter({ agent: "sofia", tag: "x" })).toEqual({ agent: "sofia", tags: ["x"] });
	expect(forgetCommand({ agent: "sofia", user: "O'Hara" })).toBe(
		"mesh memories forget --agent sofia --user 'O'\\''Hara'",
	);
});

it("quotes for a shell only what needs it, and reads tags", () => {
	expect([quoted("a-b_1"), quoted("a b"), quoted("$(x)")]).toEqual(["a-b_1", "'a b'", "'$(x)'"]);
	expect(tagsOf(" a, b,a ,,")).toEqual(["a", "b"]);
});

it("changes or drops one memory of the pages, and leaves the others as they are", () => {
	const memory = (id: string, content = "") => ({ id, content }) as Memory;
	const pages = { pages: [{ items: [memory("a"), memory("b")] }, { items: [memory("c")] }], pageParams: ["", "x"] };
	const changed = withMemory(pages as never, "b", memory("b", "new"));
	expect(changed.pages.map((page) => page.items.map((one) => one.id + one.content))).toEqual([["a", "bnew"], ["c"]]);
	expect(changed.pages[1]).toBe(pages.pages[1]);
	expect(withMemory(pages as never, "a", undefined).pages[0]?.items.map((one) => one.id)).toEqual(["b"]);
});
