/** Talks from invocations, and what goes along with a question. */
import { expect, it } from "vitest";
import type { Invocation } from "./fold";
import { brought, conversations, patched } from "./sessions";

function turn(id: string, fields: Partial<Invocation>): Invocation {
	return { id, agent: "sofia", session: "s", state: "completed", payload: { text: id }, output: { text: `re ${id}` }, created_at: "t", ...fields } as Invocation;
}

it("gathers turns to conversations", () => {
	const items = [turn("3", {}), turn("2", { session: "r", state: "running" }), turn("1", {}), turn("0", { session: null }), turn("c", { entrypoint: "channel_message" })];
	expect(conversations(items).map(({ session, said, count }) => [session, said, count])).toEqual([["s", "3", 2], ["r", "2", 1]]);
});

it("patches in place, and puts new turns in front", () => {
	const items = [turn("2", {}), turn("1", { state: "running" })];
	expect(patched(items, turn("1", {})).map(({ id, state }) => id + state)).toEqual(["2completed", "1completed"]);
	expect(patched(items, turn("3", {})).map(({ id }) => id)).toEqual(["3", "2", "1"]);
});

it("brings the newest ended turns along, oldest first, within bounds", () => {
	const items = [turn("4", { state: "running" }), turn("3", {}), turn("2", { state: "failed" }), turn("1", {})];
	expect(brought(items, 10).map(({ content }) => content)).toEqual(["1", "re 1", "3", "re 3"]);
	expect(brought(items, 3).map(({ content }) => content)).toEqual(["3", "re 3"]);
	expect(brought([turn("5", { output: { text: "x".repeat(100_000) } })], 10)).toEqual([]);
});
