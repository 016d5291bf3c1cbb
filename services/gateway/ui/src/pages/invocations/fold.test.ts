/** Pushes over rows, and the line that filters. */
import { expect, it } from "vitest";
import { belongs, hasLeft, type Invocation, merged, why, withHead, withTold } from "./fold";
import { parse } from "./words";

const row = (more: Partial<Invocation> = {}): Invocation => ({
	id: "inv_1",
	tenant: "default",
	agent: "sofia",
	version: 1,
	state: "running",
	entrypoint: "invoke",
	priority: 5,
	payload: { text: "Pay 88" },
	attempt: 1,
	created_at: "2026-11-21T12:00:00Z",
	cursor: 0,
	usage: {},
	...more,
});

it("lays what was told over the row and leaves others the object they are", () => {
	const one = row();
	expect(withTold(one, undefined)).toBe(one);
	const ended = withTold(one, { id: "inv_1", state: "failed", at: "2026-11-21T12:00:02Z", error: null, reason: "limit_tokens" });
	expect(ended).toMatchObject({ state: "failed", ended_at: "2026-11-21T12:00:02Z", reason: "limit_tokens" });
});

it("never lets an older word overwrite a newer one", () => {
	const told = merged({ id: "inv_1", state: "completed", seq: 9 }, { id: "inv_1", state: "running", seq: 2 });
	expect(told.state).toBe("completed");
	const done = row({ state: "completed" });
	expect(withTold(done, { id: "inv_1", state: "running" })).toBe(done);
});

it("leaves a row alone that was read after what was told", () => {
	const waiting = row({ state: "waiting", cursor: 9, waits_for: [{ on: "approval", tool: "pay", step: 3 }] });
	expect(withTold(waiting, { id: "inv_1", state: "running", seq: 7 })).toBe(waiting);
	expect(withTold(waiting, { id: "inv_1", state: "running", seq: 10 }).state).toBe("running");
	// Of the same record the push says more: lists have no reason.
	const ended = row({ state: "cancelled", cursor: 9 });
	expect(withTold(ended, { id: "inv_1", state: "cancelled", seq: 9, reason: "enough" }).reason).toBe("enough");
});

it("keeps a row that left its filter until the list is read again", () => {
	expect(hasLeft(row({ state: "completed" }), { state: "running" })).toBe(true);
	expect(hasLeft(row({ state: "completed" }), {})).toBe(false);
	expect(belongs({ id: "inv_2", agent: "sofia", state: "queued" }, { agent: "sofia" })).toBe(true);
	expect(belongs({ id: "inv_2", agent: "sofia", state: "queued" }, { state: "failed" })).toBe(false);
	expect(belongs({ id: "inv_2", agent: "sofia", session: null }, { session: "s" })).toBe(false);
});

it("puts new rows on top, once", () => {
	const old = [row({ id: "inv_2" }), row({ id: "inv_1" })];
	const got = withHead(old, [row({ id: "inv_3" }), row({ id: "inv_2" })]);
	expect(got.map((item) => item.id)).toEqual(["inv_3", "inv_2", "inv_1"]);
	expect(got[1]).toBe(old[0]);
});

it("says the reason before anything else", () => {
	expect(why(row({ waits_for: [{ on: "approval", tool: "pay", step: 3 }], state: "waiting" }))).toBe("approval: pay");
	expect(why(row({ output: { text: "Done" } }))).toBe("Done");
	expect(why(row())).toBe("Pay 88");
	expect(why(row({ payload: null }))).toBe("");
});

it("reads the line that filters", () => {
	const now = Date.parse("2026-11-21T12:00:00Z");
	expect(parse("agent:sofia since:24h  invoice 88 state:failed", now)).toEqual({
		agent: "sofia",
		since: "2026-11-20T12:00:00.000Z",
		state: "failed",
		q: "invoice 88",
	});
	expect(parse("since:soon state:odd", now)).toEqual({ q: "since:soon" });
});
