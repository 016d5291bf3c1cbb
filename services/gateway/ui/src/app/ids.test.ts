/** Pasted ids and matching of names. */
import { expect, it } from "vitest";
import { idIn, score } from "./ids";

it("finds an id in a line of a log", () => {
	const id = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
	expect(idIn(`failed id=${id}, state=dead`)).toEqual({ kind: "invocation", id });
	expect(idIn(id.toLowerCase())).toEqual({ kind: "invocation", id });
	expect(idIn("inv_short")).toBeUndefined();
	expect(idIn("sofia")).toBeUndefined();
});

it("prefers begins of names and of words, and wants all words", () => {
	expect(score("agent sofia", "sof")).toBeGreaterThan(score("resofia", "sof"));
	expect(score("sofia", "sof")).toBeGreaterThan(score("agent sofia", "sof"));
	expect(score("agent sofia", "sofia agent")).toBeGreaterThan(0);
	expect(score("agent sofia", "sofia node")).toBe(0);
});
