/** Frames of a node folded into a talk. */
import { expect, it } from "vitest";
import { folded, type Said, told } from "./tunnel";

const asked: readonly Said[] = [
	{ id: "a", role: "user", text: "hi", state: "sent" },
	{ id: "a", role: "assistant", text: "", state: "running" },
];

it("folds the frames of an exchange into its answer", () => {
	let said = folded(asked, "token", { id: "a", text: "He" });
	said = folded(said, "token", { id: "b", text: "nothing of ours" });
	expect(said[1]?.text).toBe("He");
	said = folded(said, "message", { id: "a", kind: "reset" });
	said = folded(said, "token", { id: "a", text: "Hello" });
	said = folded(said, "done", { id: "a", body: { text: "Hello.", provider: "mock" } });
	expect(said[1]).toMatchObject({ text: "Hello.", state: "completed", provider: "mock" });
	expect(folded(said, "token", { id: "a", text: "late" })).toEqual(said);
});

it("says why an exchange failed, and what to do", () => {
	const problem = { type: "node/not-private", title: "No", status: 409, detail: "the node sleeps", next: "wake it" };
	expect(folded(asked, "failed", { id: "a", problem })[1]).toMatchObject({ state: "failed", why: "the node sleeps Next: wake it" });
});

it("tells the node what was said, without what failed, the oldest give way", () => {
	const failed: Said = { id: "b", role: "assistant", text: "half", state: "failed" };
	expect(told([...asked, failed])).toEqual([{ role: "user", content: "hi" }]);
	const long = Array.from({ length: 100 }, (_, at): Said => ({ id: String(at), role: "user", text: `${at}`, state: "sent" }));
	expect([told(long).length, told(long).at(-1)?.content]).toEqual([60, "99"]);
});
