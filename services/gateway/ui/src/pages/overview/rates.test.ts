/** Rates, shares and how numbers are written. */
import { expect, it } from "vitest";
import { dollars, failedPercent, rate, short } from "./rates";
import { overviewSearch } from "./search";

const hour = { since: "2026-11-21T11:00:00Z", at: "2026-11-21T12:00:00Z" };

it("counts per minute and hour over what has passed", () => {
	expect(rate(120, hour, 60)).toBe(2);
	expect(rate(120, hour, 3_600)).toBe(120);
});

it("says no share where nothing ended", () => {
	expect(failedPercent({ completed: 0, failed: 0, cancelled: 0, dead: 0 })).toBeUndefined();
	expect(failedPercent({ completed: 6, failed: 1, cancelled: 0, dead: 1 })).toBe(25);
});

it.each([
	[0, "0"],
	[1234.4, "1,234"],
	[4.23, "4.2"],
	[0.0312, "0.031"],
])("%d is written %s", (value, text) => expect(short(value)).toBe(text));

it.each([
	[0, "$0"],
	[1.834, "$1.83"],
	[0.91, "$.91"],
	[0.0042, "$.0042"],
])("%d dollars are written %s", (value, text) => expect(dollars(value)).toBe(text));

it("leaves an unknown range out", () => {
	expect(overviewSearch({ range: "24h" })).toEqual({ range: "24h" });
	expect(overviewSearch({ range: "9y" })).toEqual({});
});
