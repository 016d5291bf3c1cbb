import { expect, it } from "vitest";
import { othersOf, pathTo } from "./branches";
import type { Invocation } from "./steps";

const one = (id: string, from?: string, step = 1) =>
	({ id, created_at: id, forked_from: from ? { invocation: from, step } : null }) as Invocation;
const ALL = [one("a"), one("b", "a", 6), one("c", "b", 3), one("d", "a", 2)];

it("leads from the first to this one, and knows the others", () => {
	const path = pathTo(ALL, "c");
	expect(path.map((ancestor) => [ancestor.invocation.id, ancestor.step])).toEqual([
		["a", undefined],
		["b", 6],
		["c", 3],
	]);
	expect(othersOf(ALL, path).map((other) => other.id)).toEqual(["d"]);
	expect(pathTo(ALL.slice(1), "c").map((ancestor) => ancestor.invocation.id)).toEqual(["b", "c"]);
	expect(pathTo([one("x", "y"), one("y", "x")], "x")).toHaveLength(2);
	expect(pathTo([], "a")).toEqual([]);
});
