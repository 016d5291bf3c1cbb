/** What the form shows, and what new parts begin with. */
import { expect, it } from "vitest";
import { agentForm, type Field, type GroupField } from "./form";
import { fresh, heading, isOffered, words, wordsFirst } from "./layout";

function group(...path: string[]): GroupField {
	let field: Field = agentForm;
	for (const name of path) {
		if (field.kind === "group") field = field.fields[name] as Field;
		while (field.kind === "list") field = field.of;
	}
	return field as GroupField;
}

it("shows only what belongs to the choices made, and what is set", () => {
	const spec = group("spec");
	expect(isOffered(spec, "script", { runtime: "llm" })).toBe(false);
	expect(isOffered(spec, "script", { runtime: "script" })).toBe(true);
	expect(isOffered(spec, "script", { script: {} })).toBe(true);
	expect(isOffered(spec, "model", {})).toBe(true);
	const tool = group("spec", "tools");
	expect(isOffered(tool, "url", { kind: "http" })).toBe(true);
	expect(isOffered(tool, "url", {})).toBe(false);
	expect(isOffered(tool, "parameters", {})).toBe(false);
	expect(isOffered(tool, "mcp", { kind: "mcp" })).toBe(true);
});

it("begins new parts with what they need", () => {
	expect(fresh(group("spec", "script"))).toEqual({ command: [] });
	expect(fresh(group("spec", "tools"))).toEqual({ name: "" });
	expect(fresh(group("spec", "placement"))).toEqual({});
	expect(fresh(group("spec", "noop"))).toEqual({ steps: 0 });
});

it("speaks to people", () => {
	expect([words("max_tokens"), words("cost_usd"), words("url")]).toEqual(["Max tokens", "Cost USD", "URL"]);
	expect(heading({ name: "pay", kind: "http", approval: "always" }, "tool 1")).toBe("pay · http · asks");
	expect([heading("now", "tool 1"), heading({}, "tool 1")]).toEqual(["now", "tool 1"]);
	expect(wordsFirst(["retry", "zeta", "model", "runtime"])).toEqual(["runtime", "model", "retry", "zeta"]);
});
