import { describe, expect, it } from "vitest";
import { type Approval, approvalsIn, byReason, changed, changeOf, type DeadLetter, settledIn } from "./waiting";

const PAY = { id: "inv_1-5", invocation: "inv_1", step: 5 } as Approval;
const after = (event: string, data: object) => {
	const change = changeOf(event, data);
	return change && changed([PAY], change);
};

describe("approvals", () => {
	it("keep every digit of what a person decides on", () => {
		const page =
			'{"items":[{"id":"a-1","step":1,"since":"2","input":{"arguments":{"n":9007199254740993}}},{"id":"b-2","step":2,"since":"1","input":[1.50]}],"next":"x"}';
		expect(approvalsIn(page)).toEqual({
			items: [
				{ id: "b-2", step: 2, since: "1", written: "[1.50]" },
				{ id: "a-1", step: 1, since: "2", written: '{"n":9007199254740993}' },
			],
			next: "x",
		});
		expect(approvalsIn('{"items":[]}')).toEqual({ items: [], next: null });
	});

	it("are read when an event asks for one that is not known", () => {
		expect(after("approval.requested", { invocation: "inv_1", step: 5 })).toEqual([PAY]);
		expect(after("approval.requested", { invocation: "inv_1", step: 6 })).toBeUndefined();
		expect(after("approval.requested", { id: "inv_1" })).toBeUndefined();
		expect(changeOf("step.recorded", {})).toBeUndefined();
	});

	it("go when they are decided, and when their invocation ends", () => {
		expect(after("approval.decided", { invocation: "inv_1", step: 5, decision: "deny" })).toEqual([]);
		expect(after("invocation.cancelled", { id: "inv_1" })).toEqual([]);
		expect(after("invocation.cancelled", { id: "inv_2" })).toEqual([PAY]);
	});
});

it("groups dead letters by reason, most first", () => {
	const letter = (id: string, type: string) => ({ id, reason: { type, title: type } }) as DeadLetter;
	const reasons = byReason([letter("1", "b"), letter("2", "a"), letter("3", "a"), letter("4", "c")]);
	expect(reasons.map((one) => [one.type, one.letters.map(({ id }) => id)])).toEqual([
		["a", ["2", "3"]],
		["b", ["1"]],
		["c", ["4"]],
	]);
});

it("tells a dead letter that was settled from one that came", () => {
	expect(settledIn("dead-letter.requeued", { id: "evt_1", dead_letter: "ded_1", invocation: "inv_2" })).toBe("ded_1");
	expect(settledIn("dead-letter.added", { invocation: "inv_2", agent: "ada" })).toBeUndefined();
	expect(settledIn("dead-letter.added", { id: "evt_1", dead_letter: "ded_1" })).toBeUndefined();
	expect(settledIn("dead-letter.discarded", null)).toBeUndefined();
});
