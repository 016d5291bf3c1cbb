import { expect, it } from "vitest";
import { debuggerSearch } from "./search";

it("keeps what it knows and drops what is malformed", () => {
	const known = { step: 3, of: "inv_C", tab: "saw", scale: "time", kinds: ["model", "tool"], find: "x", compare: "inv_A", fork: 2 };
	expect(debuggerSearch(known)).toEqual(known);
	expect(debuggerSearch({ step: "7", find: 42 })).toEqual({ step: 7, find: "42" });
	const odd = { step: -1, of: "x", tab: "odd", scale: "order", kinds: ["odd"], find: "", compare: "javascript:1", fork: "a" };
	expect(debuggerSearch(odd)).toEqual({});
});
