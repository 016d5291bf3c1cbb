import { expect, it } from "vitest";
import { cut } from "./slices";

const chunk = (number: number, start: number, end: number) => ({
	number,
	start,
	end,
	embedded: true,
	headings: ["A", "B"],
});

it("cuts at pieces by characters, also beyond the basic plane, and keeps all of the text", () => {
	const text = "🙂 one. two. rest";
	const slices = cut(text, [chunk(1, 7, 11), chunk(0, 2, 6)], 1_000);
	expect(slices.map((slice) => [slice.start, slice.text, slice.piece])).toEqual([
		[0, "🙂 ", undefined],
		[2, "one.", 0],
		[6, " ", undefined],
		[7, "two.", 1],
		[11, " rest", undefined],
	]);
	expect(slices[1]?.title).toBe("piece 0: A › B");
	expect(slices.map((slice) => slice.text).join("")).toBe(text);
});

it("gives an overlap to the piece that began", () => {
	expect(cut("abcdef", [chunk(0, 0, 4), chunk(1, 2, 6)], 1_000).map((slice) => slice.text)).toEqual(["abcd", "ef"]);
});
