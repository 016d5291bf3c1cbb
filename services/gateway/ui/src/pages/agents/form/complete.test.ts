/** What is offered while YAML is typed. */
import { expect, it } from "vitest";
import { offers } from "./complete";
import { agentForm } from "./form";

function labels(text: string): string[] | undefined {
	const lines = text.split("\n");
	return offers(lines, lines.at(-1)?.length ?? 0, agentForm)?.options.map(({ label }) => label);
}

it("offers the fields of where it stands", () => {
	expect(labels("ki")).toContain("metadata:");
	expect(labels("kind: Agent\nspec:\n  mod")).toContain("model:");
	expect(labels("spec:\n  model:\n    name: gpt-4\n    te")).toContain("temperature:");
	expect(labels("spec:\n  tools:\n    - name: pay\n      ap")).toContain("approval:");
	expect(labels("spec:\n  model:\n    name: gpt-4\n  lim")).toContain("limits:");
});

it("offers the values of a choice", () => {
	expect(labels("spec:\n  runtime: l")).toEqual(["llm", "script", "cli", "http", "noop", "container", "wasm"]);
	expect(labels("spec:\n  session:\n    policy: ")).toContain("interrupt");
	expect(labels("spec:\n  tools:\n    - name: pay\n      approval: ")).toEqual(["never", "always"]);
	expect(labels("spec:\n  instructions: wri")).toBeUndefined();
});
