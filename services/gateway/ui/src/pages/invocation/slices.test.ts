import { describe, expect, it } from "vitest";
import { at, indented, members, parsed, slice, valueAt } from "./slices";

const TEXT =
	'{"items":[{"input":{"n": 9007199254740993, "f": 1.50, "s":"a \\"b\\" }{ \\\\"},"output":[],"e":{}}],"next":null}';

const written = (path: (string | number)[]) => {
	const range = at(TEXT, path);
	return range && slice(TEXT, range);
};

describe("values in a JSON text", () => {
	it("are found by their path, as they were written", () => {
		expect(written(["items", 0, "input", "n"])).toBe("9007199254740993");
		expect(written(["items", 0, "input", "f"])).toBe("1.50");
		expect(written(["items", 0, "input", "s"])).toBe('"a \\"b\\" }{ \\\\"');
		expect(written(["items", 0, "output"])).toBe("[]");
		expect(written(["next"])).toBe("null");
		expect(written(["items", 1])).toBeUndefined();
		expect(written(["items", 0, "input", "n", "x"])).toBeUndefined();
	});

	it("know their members, one level deep", () => {
		expect(members(TEXT, valueAt(TEXT, 0)).map((member) => member.key)).toEqual(["items", "next"]);
		expect(members("[]", valueAt("[]", 0))).toEqual([]);
		expect(members('"[1]"', valueAt('"[1]"', 0))).toEqual([]);
	});

	it("are the same values when they are put in lines", () => {
		const lines = indented(TEXT);
		expect(lines).toContain('"n": 9007199254740993,\n');
		expect(JSON.parse(lines)).toEqual(parsed(TEXT, valueAt(TEXT, 0)));
	});

	it("are found in 5 MB without parsing them", () => {
		const long = `{"a":[${'{"x":"y\\\\"},'.repeat(400_000)}1],"b":7}`;
		const range = at(long, ["b"]);
		expect(range && slice(long, range)).toBe("7");
	});
});
