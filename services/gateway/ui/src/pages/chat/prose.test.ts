/** Text of a model as blocks. */
import { expect, it } from "vitest";
import { prose } from "./prose";

it("finds code, lists, headings and emphasis", () => {
	expect(prose("# A\none **two** `x` *y*\n- a\n- b\n1. c\n```js\nlet a = `1`;\n```\nend")).toEqual([
		{ kind: "heading", spans: [{ kind: "plain", text: "A" }] },
		{
			kind: "text",
			spans: [
				{ kind: "plain", text: "one " },
				{ kind: "strong", text: "two" },
				{ kind: "plain", text: " " },
				{ kind: "code", text: "x" },
				{ kind: "plain", text: " " },
				{ kind: "emphasis", text: "y" },
			],
		},
		{ kind: "list", isOrdered: false, items: [[{ kind: "plain", text: "a" }], [{ kind: "plain", text: "b" }]] },
		{ kind: "list", isOrdered: true, items: [[{ kind: "plain", text: "c" }]] },
		{ kind: "code", language: "js", text: "let a = `1`;" },
		{ kind: "text", spans: [{ kind: "plain", text: "end" }] },
	]);
});

it("shows code that is still streamed", () => {
	expect(prose("```\nlet")).toEqual([{ kind: "code", language: "", text: "let" }]);
	expect(prose("```")).toEqual([{ kind: "code", language: "", text: "" }]);
});

it("leaves markup of others as the text that it is", () => {
	const hostile = "<img src=x onerror=alert(1)> ![x](http://e.example/) [y](javascript:1) 2 * 3 * 4";
	expect(prose(hostile)).toEqual([{ kind: "text", spans: [{ kind: "plain", text: hostile }] }]);
});

it("keeps paragraphs apart and lines as they are", () => {
	expect(prose("a\nb\n\nc\n")).toEqual([
		{ kind: "text", spans: [{ kind: "plain", text: "a\nb" }] },
		{ kind: "text", spans: [{ kind: "plain", text: "c" }] },
	]);
	expect(prose("")).toEqual([]);
});
