import { describe, expect, it } from "vitest";
import { messagesOf, mistakeIn, startOf, withText } from "./edits";
import type { Step } from "./steps";

const recorded = (input: string, output: string) => ({ input, output });
const MODEL = { kind: "model" } as Step;
const TOOL = { kind: "tool" } as Step;

describe("what a field begins with", () => {
	it("is what was recorded, digits and all", () => {
		const body = recorded('{"messages":[{"role":"user","content":"a"}]}', '{"n":9007199254740993}');
		expect(startOf("output", TOOL, body, undefined)).toBe('{\n  "n": 9007199254740993\n}');
		expect(startOf("prompt", MODEL, body, undefined)).toContain('"content": "a"');
		expect(startOf("prompt", MODEL, undefined, undefined)).toBeUndefined();
	});

	it("is a model's text where it called nothing, else its whole answer", () => {
		expect(startOf("output", MODEL, recorded("{}", '{"text":"Hi \\"you\\"","provider":"m"}'), null)).toBe('"Hi \\"you\\""');
		expect(startOf("output", MODEL, recorded("{}", '{"text":"","tool_calls":[{}]}'), null)).toContain("tool_calls");
	});

	it("is of the version that ran", () => {
		const spec = { instructions: "Be kind.", model: { name: "gpt-4" } } as Parameters<typeof startOf>[3];
		expect(startOf("instructions", MODEL, undefined, spec)).toBe("Be kind.");
		expect(startOf("model", MODEL, undefined, spec)).toBe("gpt-4");
		expect(startOf("model", MODEL, undefined, undefined)).toBeUndefined();
	});
});

describe("a prompt", () => {
	const json = '[ {"content": "Pay 88", "role": "user", "seed": 9007199254740993}, {"role":"tool","content":[{"type":"x"}]} ]';

	it("is edited message by message, and every other byte stays", () => {
		const messages = messagesOf(json) ?? [];
		expect(messages.map(({ role, text }) => [role, text])).toEqual([
			["user", "Pay 88"],
			["tool", undefined],
		]);
		const first = messages[0];
		expect(first && withText(json, first, 'Pay "89"')).toBe(json.replace('"Pay 88"', '"Pay \\"89\\""'));
	});

	it("is refused while it is none", () => {
		expect(messagesOf("[")).toBeUndefined();
		expect(mistakeIn("prompt", "[]")).toMatch(/messages/);
		expect(mistakeIn("output", "{")).toBeDefined();
		expect(mistakeIn("output", "1")).toBeUndefined();
		expect(mistakeIn("model", " ")).toBe("name a model");
	});
});
