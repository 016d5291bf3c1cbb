/** Every page, at both widths and in both themes: loads, fits, is accessible, reloads to the same; its picture is taken. */
import { idleOf, PAGES, pathOf } from "./support/pages";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

for (const { name, path: of, title } of PAGES) {
	test(`1, 2, 5: ${name} fits, is accessible and reloads to itself`, async ({ page }, info) => {
		const path = pathOf(of);
		await page.goto(path);
		const heading = page.getByRole("heading", { level: 1 }).first();
		await expect(heading).toContainText(title);
		await settled(page);
		await noSidewaysScroll(page);
		for (const scheme of ["light", "dark"] as const) {
			await page.emulateMedia({ colorScheme: scheme });
			await accessible(page);
			await page.screenshot({ path: `screenshots/${name}-${info.project.name}-${scheme}.png` });
		}
		const before = await heading.textContent();
		await page.reload();
		await settled(page);
		await expect(heading).toHaveText(before ?? "");
		const { pathname, search } = new URL(page.url());
		expect(pathname + search).toBe(path);
	});
}

test("1, 2: sign-in fits and is accessible", async ({ page }, info) => {
	await page.goto("/sign-in");
	await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
	await page.waitForLoadState("networkidle");
	await noSidewaysScroll(page);
	await accessible(page);
	await page.screenshot({ path: `screenshots/sign-in-${info.project.name}.png` });
});

test("a path that leads nowhere says so", async ({ page }) => {
	await page.goto("/t/default/nowhere");
	await expect(page.getByRole("heading", { level: 1 })).toHaveText("There is no such page");
	await noSidewaysScroll(page);
});

// The clock is the test's: an hour of timers runs in a moment, and none of them may ask for anything.
// A node is left out: its heartbeats are news. Requests are the same at any width.
for (const { name, path } of PAGES.filter((one) => one.name !== "node")) {
	test(`10: ${name} sends nothing while nothing happens @wide`, async ({ page, watch }) => {
		await page.clock.install();
		await page.goto(idleOf(path));
		await expect(page.getByRole("banner").getByRole("status").first()).toHaveText("live");
		await page.waitForLoadState("networkidle");
		await page.clock.runFor(5_000);
		await page.waitForLoadState("networkidle");
		watch.forget();
		await page.clock.runFor(60_000);
		await page.waitForLoadState("networkidle");
		expect(watch.requests).toEqual([]);
	});
}
