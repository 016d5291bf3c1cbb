import { expect, it } from "vitest";
import { said, span } from "./time";

it.each([
	[0, "0 ms"],
	[312.4, "312 ms"],
	[1_240, "1.24 s"],
	[60_000, "1 min"],
	[8_040_000, "2 h 14 min"],
	[90_061_000, "1 d 1 h"],
])("%d ms is %s", (milliseconds, text) => {
	expect(span(milliseconds)).toBe(text);
});

it("names the day only when it is another one", () => {
	const now = new Date("2026-11-21T12:00:00Z");
	expect(said(new Date("2026-11-21T09:04:31Z"), true, now)).toBe("09:04:31");
	expect(said(new Date("2026-11-20T23:59:59Z"), true, now)).toBe("2026-11-20 23:59:59");
});
