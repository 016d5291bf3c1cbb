import { describe, expect, it } from "vitest";
import { mergedSteps, momentOf, patched, stepOf, withMoment } from "./merge";
import type { Invocation, Moment, Step } from "./steps";

const step = (number: number, ended_at: string | null) => ({ number, ended_at, kind: "tool" }) as Step;
const OPEN = { state: "running", cursor: 5, usage: {}, waits_for: [], attempt: 1 } as unknown as Invocation;

describe("steps", () => {
	it("are replaced by their record, never the other way", () => {
		const before = [step(1, "a"), step(2, null)];
		const done = mergedSteps(before, [step(2, "b"), step(3, null)]);
		expect(done.map((one) => one.ended_at)).toEqual(["a", "b", null]);
		expect(mergedSteps(done, [step(2, null)])).toBe(done);
		expect(mergedSteps(done, [])).toBe(done);
		expect(mergedSteps(done, [step(5, "x"), step(4, null)]).map((one) => one.number)).toEqual([1, 2, 3, 4, 5]);
	});

	it("are taken from a push without their bodies", () => {
		const data = { number: 3, kind: "tool", name: "t", input: {}, output: { big: 1 }, seq: 8, at: "x", invocation: "inv" };
		expect(stepOf(data)).toEqual({ number: 3, kind: "tool", name: "t" });
		expect(stepOf("odd")).toBeUndefined();
	});
});

describe("an event", () => {
	it("says how the invocation is now, unless it is older than what was read", () => {
		const data = { seq: 6, at: "t", state: "waiting", waits_for: [{ step: 2, on: "approval", tool: "pay" }] };
		expect(patched(OPEN, { event: "invocation.waiting", data })).toMatchObject({ state: "waiting", cursor: 6 });
		expect(patched(OPEN, { event: "invocation.waiting", data: { ...data, seq: 5 } })).toBeUndefined();
		expect(patched(OPEN, { event: "token", data: { text: "x", step: 1, attempt: 1 } })).toBeUndefined();
	});

	it("ends it with output, usage and reason", () => {
		const data = { seq: 9, at: "then", state: "failed", error: { title: "no" }, usage: { cost_usd: 1 }, reason: "r" };
		expect(patched(OPEN, { event: "invocation.failed", data })).toMatchObject({
			state: "failed",
			ended_at: "then",
			error: { title: "no" },
			usage: { cost_usd: 1 },
			reason: "r",
		});
		expect(patched(OPEN, { event: "invocation.paused", data: { seq: 7 } })?.paused).toBe(true);
	});

	it("is a line of history", () => {
		const push = { event: "approval.decided", data: { seq: 4, epoch: 1, at: "t", step: 2, by: "ann", decision: "deny" } };
		const moment = momentOf(push) as Moment;
		expect(moment).toMatchObject({ what: "decided", approved: false, by: "ann", seq: 4 });
		expect(withMoment([moment], moment)).toHaveLength(1);
		expect(withMoment([], moment)).toHaveLength(1);
		expect(momentOf({ event: "token", data: {} })).toBeUndefined();
	});
});
