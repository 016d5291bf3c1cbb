/** When a page is loaded anew for a part that it cannot have. */
import { expect, it } from "vitest";
import { isPartMissing, later, type Page, reloadOnce } from "./later";

function world() {
	const kept = new Map<string, string>();
	const now = { time: 1_000, isWriting: false, isThere: true, reloads: 0 };
	const page: Page = {
		kept: { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => void kept.set(key, value) },
		now: () => now.time,
		isWriting: () => now.isWriting,
		isThere: async () => now.isThere,
		reload: () => void now.reloads++,
	};
	return { now, page };
}

it("loads a page anew once, and again when some time has passed", async () => {
	const { now, page } = world();
	// Several parts of a page fail at once.
	expect(await Promise.all([reloadOnce(page), reloadOnce(page)])).toEqual([true, false]);
	now.time += 299_999;
	expect(await reloadOnce(page)).toBe(false);
	now.time += 1;
	expect(await reloadOnce(page)).toBe(true);
	expect(now.reloads).toBe(2);
});

it("leaves a page where words would be lost, or nothing answers", async () => {
	const { now, page } = world();
	now.isWriting = true;
	expect(await reloadOnce(page)).toBe(false);
	[now.isWriting, now.isThere] = [false, false];
	expect(await reloadOnce(page)).toBe(false);
	now.isThere = true;
	const forgetful = { ...page, kept: { getItem: () => null, setItem: () => { throw new Error("full"); } } };
	expect(await reloadOnce(forgetful)).toBe(false);
	expect(now.reloads).toBe(0);
	expect(await reloadOnce(page)).toBe(true);
});

it("says of a part that cannot be loaded what that means", async () => {
	await expect(later(async () => 7)()).resolves.toBe(7);
	const error = await later(async () => Promise.reject(new TypeError("Failed to fetch")))().catch((thrown: unknown) => thrown);
	expect(isPartMissing(error)).toBe(true);
	expect(error).toMatchObject({ problem: { next: "load the page anew" } });
	expect(isPartMissing(new TypeError("Failed to fetch"))).toBe(false);
});
