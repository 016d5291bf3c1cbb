import { expect, it } from "vitest";
import { invocationSearch } from "./search";

it("keeps what it knows and drops what is malformed", () => {
	expect(invocationSearch({ agent: "sofia", state: "failed", since: "2026-11-21T00:00:00Z", q: "" })).toEqual({
		agent: "sofia",
		state: "failed",
		since: "2026-11-21T00:00:00Z",
	});
	expect(invocationSearch({ agent: {}, q: 42, state: "odd", since: "yesterday", more: true })).toEqual({ q: "42" });
});
