import { expect, it } from "vitest";
import { changes } from "./changes";
import { standing } from "./keys";

it("says what differs by path, and what was made or taken away", () => {
	expect(changes({ role: "viewer", a: { b: 1, c: 2 } }, { role: "owner", a: { b: 1, c: [3] }, new: true })).toEqual([
		{ path: "role", before: "viewer", after: "owner" },
		{ path: "a.c", before: "2", after: "[3]" },
		{ path: "new", before: undefined, after: "true" },
	]);
	expect(changes(null, { owner: "ann", with: null, name: "" })).toEqual([
		{ path: "owner", before: undefined, after: "ann" },
	]);
	expect(changes(null, null)).toEqual([]);
	expect(changes("x".repeat(200), null)[0]?.before).toHaveLength(161);
});

it("tells valid from expired and revoked", () => {
	const now = Date.parse("2026-11-21T12:00:00Z");
	expect(standing({ revoked_at: "2026-11-20T00:00:00Z", expires_at: null }, now)).toBe("revoked");
	expect(standing({ expires_at: "2026-11-21T12:00:00Z" }, now)).toBe("expired");
	expect(standing({ expires_at: "2026-11-21T12:00:01Z" }, now)).toBe("valid");
	expect(standing({}, now)).toBe("valid");
});
