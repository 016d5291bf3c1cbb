/** Patching, reading and marking the YAML of an agent. */
import { expect, it } from "vitest";
import { lineOf, marks, patch, read, write, writeSpec } from "./document";

const TEXT = `# who answers
apiVersion: mesh/v1
kind: Agent
metadata: {name: sofia} # flow stays flow
spec:
  model:
    name: gpt-4 # the good one
    temperature: 9
  # what it may do
  tools:
    - now
    - {name: pay, approval: always}
`;

it("keeps comments when the form changes a value", () => {
	const next = patch(TEXT, ["spec", "model", "name"], "mock");
	expect(next).toBe(TEXT.replace("gpt-4", "mock"));
	const more = patch(next, ["spec", "limits", "iterations"], 4);
	for (const comment of ["# who answers", "# flow stays flow", "# the good one", "# what it may do"]) {
		expect(more).toContain(comment);
	}
	expect(read(more).value).toMatchObject({ spec: { limits: { iterations: 4 }, model: { name: "mock" } } });
});

it("leaves out what is cleared", () => {
	expect(patch(TEXT, ["spec", "model", "temperature"], undefined)).not.toContain("temperature");
	expect(patch(TEXT, ["spec", "cli", "driver"], undefined)).toBe(TEXT);
});

it("makes an object of a tool that was only named", () => {
	const next = patch(TEXT, ["spec", "tools", 0, "approval"], "always");
	expect(read(next).value).toMatchObject({ spec: { tools: [{ name: "now", approval: "always" }, { name: "pay" }] } });
});

it("writes texts of several lines as blocks, and one line as a line again", () => {
	const long = patch(TEXT, ["spec", "instructions"], "one\ntwo: # 3\n");
	expect(long).toContain("instructions: |\n    one\n    two: # 3\n");
	expect(read(long).value).toMatchObject({ spec: { instructions: "one\ntwo: # 3\n" } });
	expect(patch(long, ["spec", "instructions"], "short")).toContain("instructions: short\n");
});

it("does not touch a text that is no YAML", () => {
	const broken = "spec: [1, 2";
	expect(read(broken).errors.length).toBeGreaterThan(0);
	expect(patch(broken, ["spec"], 1)).toBe(broken);
});

it("refuses a second document", () => {
	expect(read("a: 1\n---\nb: 2\n").errors[0]?.message).toContain("one agent");
});

it("finds the line of a path, or of what is nearest to it", () => {
	expect(lineOf(TEXT, ["spec", "model", "temperature"])).toBe(8);
	expect(lineOf(TEXT, ["spec", "tools", 1, "name"])).toBe(12);
	expect(lineOf(TEXT, ["spec", "tools", 1, "url"])).toBe(12);
	expect(lineOf(TEXT, ["spec", "limits", "timeout"])).toBe(5);
	expect(lineOf(TEXT, [])).toBe(1);
});

it("marks a value, and the key of what lacks something", () => {
	const [value, key] = marks(TEXT, [
		{ path: ["spec", "model", "temperature"], message: "must be at most 2" },
		{ path: ["spec", "model", "max_tokens"], message: "is needed" },
	]);
	expect(TEXT.slice(value?.from, value?.to)).toBe("9");
	expect(TEXT.slice(key?.from, key?.to)).toBe("model");
	expect(value?.message).toBe("temperature must be at most 2");
});

it("survives a text that multiplies itself", () => {
	const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n`;
	expect(read(bomb).errors.length).toBe(1);
});

it("writes objects in the order of people", () => {
	const text = write({ spec: { tools: [], model: { name: "m" }, runtime: "llm" }, metadata: { name: "a" }, kind: "Agent", apiVersion: "mesh/v1" });
	expect(text).toBe("apiVersion: mesh/v1\nkind: Agent\nmetadata:\n  name: a\nspec:\n  runtime: llm\n  model:\n    name: m\n  tools: []\n");
	expect(writeSpec({ tools: [], runtime: "llm" })).toBe("runtime: llm\ntools: []\n");
});
