import { expect, it } from "vitest";
import { secondsUntil } from "./countdown";
import { isLocalPath, signInSearch } from "./search";

it("goes back to paths of this site only", () => {
	const local = ["/", "/t/default/invocations?state=failed#x"];
	const foreign = [
		"//evil.example",
		"/\\evil.example",
		"https://evil.example",
		"t/default",
		"/a\\b",
		"/a\nb",
		"/sign-in",
	];
	expect(local.map(isLocalPath)).toEqual([true, true]);
	expect(foreign.filter(isLocalPath)).toEqual([]);
	expect(signInSearch({ return_to: "//evil.example", error: "access_denied" })).toEqual({ error: "access_denied" });
	expect(signInSearch({ return_to: "/t/x" })).toEqual({ return_to: "/t/x" });
});

it("counts whole seconds down to none", () => {
	expect([secondsUntil(30_000, 0), secondsUntil(30_000, 29_001), secondsUntil(30_000, 31_000)]).toEqual([30, 1, 0]);
	expect(secondsUntil(undefined, 5)).toBe(0);
});
