/** Events folded into an answer. */
import { expect, it } from "vitest";
import { answerIn, fold, NOTHING, type Progress, saidIn } from "./fold";

function folded(...events: [string, unknown][]): Progress {
	return events.reduce((progress, [event, data]) => fold(progress, event, data), NOTHING);
}

function shown(progress: Progress): string[] {
	return progress.blocks.map((block) =>
		block.kind === "text" ? `${block.isVoid ? "~" : ""}${block.text}` : `[${block.record.name}]`,
	);
}

const token = (step: number, attempt: number, text: string): [string, unknown] => ["token", { step, attempt, text }];
const model = (number: number, text: string): [string, unknown] => [
	"step.recorded",
	{ number, kind: "model", name: "m", attempt: 1, output: { text } },
];

it("lets text grow", () => {
	expect(shown(folded(token(2, 1, "Hel"), token(2, 1, "lo")))).toEqual(["Hello"]);
});

it("strikes a try that is void", () => {
	expect(shown(folded(token(2, 1, "Hel"), ["reset", { step: 2, attempt: 2 }], token(2, 2, "Hi")))).toEqual(["~Hel", "Hi"]);
	expect(shown(folded(token(2, 1, "Hel"), token(2, 2, "Hi")))).toEqual(["~Hel", "Hi"]);
	// Another worker begins its own first try.
	expect(shown(folded(token(2, 1, "Hel"), ["reset", { step: 2, attempt: 1 }], token(2, 1, "Hi")))).toEqual(["~Hel", "Hi"]);
});

it("ends as the record has it", () => {
	expect(shown(folded(token(2, 1, "Hel"), model(2, "Hello.")))).toEqual(["Hello."]);
	expect(shown(folded(token(2, 1, "x"), ["reset", { step: 2, attempt: 2 }], token(2, 2, "y"), model(2, "Yes.")))).toEqual(["~x", "Yes."]);
});

it("shows tools in the order of steps, bookkeeping not at all", () => {
	const tool = (number: number, kind: string): [string, unknown] => ["step.recorded", { number, kind, name: kind, output: 1 }];
	const progress = folded(tool(1, "context.memories"), model(2, "Looking."), token(5, 1, "Done"), tool(4, "tool"), tool(3, "tool"), tool(4, "tool"));
	expect(shown(progress)).toEqual(["Looking.", "[tool]", "[tool]", "Done"]);
	expect(progress.blocks.map(({ step }) => step)).toEqual([2, 3, 4, 5]);
});

it("knows the state and what came of it", () => {
	const waits = folded(["invocation.running", {}], ["invocation.waiting", { waits_for: [{ on: "approval", tool: "pay", step: 3 }] }]);
	expect([waits.state, waits.told.waits_for?.length]).toEqual(["waiting", 1]);
	const ended = fold(waits, "invocation.completed", { output: { text: "ok" }, error: null });
	expect([ended.state, ended.told.output, ended.told.waits_for]).toEqual(["completed", { text: "ok" }, []]);
	expect(folded(["invocation.paused", {}]).state).toBeUndefined();
});

it("reads what was said and answered, whatever its shape", () => {
	expect(saidIn({ text: "hi" })).toBe("hi");
	expect(saidIn({ messages: [{ role: "user", content: "hi" }] })).toBe("hi");
	expect(saidIn({ order: 7 })).toContain('"order": 7');
	expect(saidIn(null)).toBe("");
	expect(answerIn({ text: "ok" })).toBe("ok");
	expect(answerIn([1])).toBe("[\n  1\n]");
});
