import { expect, it } from "vitest";
import { buttonWords, counted, type ForkStep, fateWords, forkBody } from "./forecast";

function fate(step: number, kind: ForkStep["kind"], effect: ForkStep["effect"], is: ForkStep["fate"], because = ""): ForkStep {
	return { step, kind, name: kind, effect, fate: is, because };
}

const STEPS = [
	fate(1, "context.memories", "pure", "read"),
	fate(2, "model", "idempotent", "replaced", "the model is asked the edited prompt"),
	fate(3, "tool", "pure", "run"),
	fate(4, "tool", "idempotent", "run"),
	fate(5, "approval", "idempotent", "asked"),
	fate(6, "tool", "at_most_once", "asked"),
	fate(7, "child", "idempotent", "run"),
	fate(8, "model", "idempotent", "run"),
];

it("says of each step what becomes of it", () => {
	expect(STEPS.map((step) => fateWords(step, 2))).toEqual([
		"read, free",
		"runs edited, costs",
		"runs",
		"runs under the branch's own keys: the world sees it again",
		"a person is asked again",
		"answered from the recording, or asks",
		"the agent is called again, costs",
		"runs, costs",
	]);
	expect(fateWords(fate(3, "tool", "pure", "replaced", "its result is the edited one"), 3)).toBe("replaced, free");
});

it("counts on the button what runs for real", () => {
	expect(counted(STEPS)).toEqual({ models: 2, tools: 2, agents: 1, asked: 2, read: 1 });
	expect(buttonWords(STEPS)).toBe("Fork: 2 model calls, 2 real tool calls, 1 agent call, 2 may ask");
	expect(buttonWords(STEPS.slice(0, 1))).toBe("Fork: nothing recorded runs again");
});

it("sends an output with every digit that was written", () => {
	expect(forkBody(3, "output", '{"n":9007199254740993}')).toBe('{"from_step":3,"edit":{"output":{"n":9007199254740993}}}');
	expect(JSON.parse(forkBody(3, "instructions", 'Say "no".'))).toEqual({ from_step: 3, edit: { instructions: 'Say "no".' } });
	expect(JSON.parse(forkBody(3, undefined, ""))).toEqual({ from_step: 3 });
});
