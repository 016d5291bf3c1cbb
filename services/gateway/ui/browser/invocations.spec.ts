/** The list: 100,000 rows, rows that stay where they are, filters by keyboard, acts on what a filter finds. */
import type { Page } from "@playwright/test";
import { routePushes } from "./support/pushes";
import { accessible, expect, settled, test } from "./support/test";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** Ids that fall with the number, as those of older invocations do. */
function idOf(number: number): string {
	let rest = 1_000_000_000 - number;
	let text = "";
	for (let place = 0; place < 26; place++) {
		text = (ALPHABET[rest % 32] ?? "0") + text;
		rest = Math.floor(rest / 32);
	}
	return `inv_${text}`;
}

function item(number: number) {
	return {
		id: idOf(number),
		tenant: "default",
		agent: "many",
		version: 1,
		state: "running",
		entrypoint: "invoke",
		priority: 5,
		payload: { text: `number ${number}` },
		attempt: 1,
		created_at: new Date(1_763_700_000_000 - number * 1_000).toISOString(),
		cursor: 0,
		usage: { cost_usd: 0 },
		waits_for: [],
		paused: false,
	};
}

const ALL = 100_000;
const PAGE = 5_000;

async function routeList(page: Page): Promise<void> {
	await page.route(/\/api\/v1\/invocations\?/, (route) => {
		const after = Number(new URL(route.request().url()).searchParams.get("after") ?? "0");
		const items = Array.from({ length: PAGE }, (_, place) => item(after + place));
		const next = after + PAGE < ALL ? String(after + PAGE) : null;
		return route.fulfill({ json: { items, next } });
	});
}

const rowsOf = (page: Page) => page.getByRole("table", { name: "Invocations" }).getByRole("row");

test("7: of 100,000 rows fewer than 100 are in the document", async ({ page }) => {
	await routePushes(page);
	await routeList(page);
	await page.goto("/t/default/invocations");
	await expect(rowsOf(page).first()).toBeVisible();
	const table = page.getByRole("table", { name: "Invocations" });
	for (let read = PAGE; read < ALL; read += PAGE) {
		await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
		await expect(table).toHaveAttribute("aria-rowcount", String(read + PAGE + 1));
		expect(await rowsOf(page).count()).toBeLessThan(100);
	}
	await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
	await expect(page.getByText(`number ${ALL - 1}`)).toBeVisible();
	await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight / 2));
	await expect(rowsOf(page).nth(5)).toBeVisible();
	expect(await rowsOf(page).count()).toBeLessThan(100);
});

/** Scrolls so many pixels a frame, from the top; answers the 99th percentile of the time between frames, and rows. */
async function scrolled(page: Page, pixels: number, frames: number): Promise<{ p99: number; most: number }> {
	return page.evaluate(
		async ([by, count]) => {
			const frame = () =>
				new Promise<number>((drawn, fail) => {
					const late = setTimeout(() => fail(new Error(`no frame in 10 s; the page is ${document.visibilityState}`)), 10_000);
					requestAnimationFrame((now) => {
						clearTimeout(late);
						drawn(now);
					});
				});
			const times: number[] = [];
			let most = 0;
			window.scrollTo(0, 0);
			let last = await frame();
			for (let scrolls = 0; scrolls < count; scrolls++) {
				window.scrollBy(0, by);
				const now = await frame();
				times.push(now - last);
				last = now;
				most = Math.max(most, document.querySelectorAll("[role=row][aria-rowindex]").length);
			}
			times.sort((left, right) => left - right);
			return { p99: times[Math.floor(times.length * 0.99)] ?? 0, most };
		},
		[pixels, frames] as const,
	);
}

test.describe(() => {
	// Under this load Chromium (156, headless, drawing by software) now and then stops drawing for good: timers of the page
	// still run, frames and pictures never come. Another browser is asked, once; what it says of the page counts.
	test.describe.configure({ retries: 1 });
	test("7: 100,000 rows scroll, and each can be reached @wide", async ({ page }, info) => {
		// Read page by page, and 600 frames: a minute alone, three beside another browser on two busy cores.
		test.setTimeout(300_000);
		await routePushes(page);
		await routeList(page);
		await page.goto("/t/default/invocations");
		const table = page.getByRole("table", { name: "Invocations" });
		for (let read = PAGE; read < ALL; read += PAGE) {
			await expect(table).toHaveAttribute("aria-rowcount", String(read + 1));
			await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight));
		}
		await expect(table).toHaveAttribute("aria-rowcount", String(ALL + 1));
		for (const pixels of [120, 1_200]) {
			const { p99, most } = await scrolled(page, pixels, 300);
			info.annotations.push({ type: `p99 frame, ${pixels} px a frame`, description: `${p99.toFixed(1)} ms` });
			expect(most).toBeLessThan(100);
		}
		// Anywhere: the row that belongs to the place stands at it.
		for (let number = 0; number < ALL; number += 4_111) {
			await page.evaluate(
				([at, all]) => {
					const rows = document.querySelectorAll<HTMLElement>('[role=table][aria-label="Invocations"] > [role=rowgroup]')[1];
					const top = (rows?.getBoundingClientRect().top ?? 0) + window.scrollY;
					window.scrollTo(0, top + ((rows?.clientHeight ?? 0) / all) * at - 200);
				},
				[number, ALL] as const,
			);
			const row = page.locator(`[role=row][aria-rowindex="${number + 2}"]`);
			await expect(row).toContainText(`number ${number}`);
			await expect(row).toBeInViewport();
		}
	});
});

test("8, 9: a row that is read stays where it is while 1,000 events pass", async ({ page }) => {
	const pushes = await routePushes(page);
	await routeList(page);
	await page.goto("/t/default/invocations");
	await expect(rowsOf(page).nth(3)).toBeVisible();
	await page.mouse.wheel(0, 600);
	const row = rowsOf(page).filter({ hasText: "number 30" }).first();
	await expect(row).toBeVisible();
	await page.evaluate(() => {
		const text = [...document.querySelectorAll("[role=cell]")].find((cell) => cell.textContent === "number 31");
		if (text) document.getSelection()?.selectAllChildren(text);
	});
	const link = row.getByRole("link");
	await link.focus();
	await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
	const before = await row.boundingBox();
	const selected = await page.evaluate(() => document.getSelection()?.toString());
	for (let event = 0; event < 500; event++) {
		const fresh = { id: idOf(-1 - event), agent: "many", version: 1, session: null, state: "queued", seq: 1 };
		await pushes.push("invocations", "invocation.queued", fresh);
		const ended = { id: idOf(event), agent: "many", version: 1, session: null, state: "completed", seq: 9 };
		await pushes.push("invocations", "invocation.completed", { ...ended, at: "2026-11-21T12:00:00Z" });
	}
	await expect(page.getByRole("button", { name: "500 new" })).toBeVisible();
	await expect(row).toContainText("completed");
	expect(await row.boundingBox()).toEqual(before);
	expect(await page.evaluate(() => document.getSelection()?.toString())).toBe(selected);
	await expect(link).toBeFocused();
});

test("a row that left its filter dims until the list is read again", async ({ page }) => {
	const pushes = await routePushes(page);
	await routeList(page);
	await page.goto("/t/default/invocations?state=running");
	await expect(rowsOf(page).nth(3)).toBeVisible();
	const told = { id: idOf(1), agent: "many", version: 1, session: null, state: "failed", seq: 9, at: "2026-11-21T12:00:00Z" };
	await pushes.push("invocations", "invocation.failed", { ...told, error: { type: "a/b", title: "No", status: 500, detail: "three tries" } });
	const row = rowsOf(page).filter({ hasText: "three tries" });
	await expect(row).toHaveAttribute("data-left", "true");
	await accessible(page);
});

test("5, 6: filters are the URL; keys mark and open a row, Back finds it again @keyboard", async ({ page, browser, meshUrl }) => {
	await page.goto("/t/default/invocations");
	await settled(page);
	await page.keyboard.press("/");
	await page.keyboard.type("agent:ada since:24h");
	await page.keyboard.press("Enter");
	await expect(page).toHaveURL(/agent=ada/);
	await settled(page);
	const other = await browser.newContext({ baseURL: meshUrl });
	const same = await other.newPage();
	await same.goto(page.url());
	await expect(same.getByRole("link", { name: "Remove the filter agent ada" })).toBeVisible();
	await settled(same);
	expect(await rowsOf(same).count()).toBe(await rowsOf(page).count());
	await other.close();
	await page.keyboard.press("j");
	await page.keyboard.press("j");
	const marked = page.locator("[data-marked]");
	const text = await marked.textContent();
	await page.keyboard.press("Enter");
	await expect(page).toHaveURL(/\/invocations\/inv_/);
	await page.goBack();
	await expect(marked).toHaveText(text ?? "");
	await expect(marked.getByRole("link")).toBeFocused();
	await page.getByRole("link", { name: "Remove the filter agent ada" }).click();
	await expect(page).not.toHaveURL(/agent=ada/);
});

test("what a filter finds is cancelled after its count was said", async ({ page, meshUrl }, info) => {
	const name = `sleeper-${info.project.name}`;
	await startSleepers(meshUrl, name);
	await page.goto(`/t/default/invocations?agent=${name}`);
	await settled(page);
	await page.getByRole("button", { name: "Cancel 3…" }).click();
	const dialog = page.getByRole("dialog");
	await expect(dialog).toContainText("3 invocations will be cancelled");
	await accessible(page);
	await dialog.getByRole("button", { name: "Cancel 3 invocations" }).click();
	await expect(rowsOf(page).filter({ hasText: "cancelled" })).toHaveCount(3);
	await expect(page.getByRole("button", { name: /^Cancel/ })).toBeHidden();
});

async function startSleepers(url: string, name: string): Promise<void> {
	const { declare, post } = await import("./support/seed");
	await declare({ url }, name, { runtime: "script", script: { steps: [{ sleep: "10m" }] } }).catch(() =>
		declare({ url }, name, { runtime: "noop" }),
	);
	await post(url, "/api/v1/pause", { target: { agent: name } });
	for (let count = 0; count < 3; count++) await post(url, `/api/v1/agents/${name}/invocations`, { payload: { text: `${count}` } });
}

test("rows that cannot be read now go on waiting in the pill", async ({ page, watch }) => {
	watch.allow("ERR_FAILED");
	const pushes = await routePushes(page);
	let [known, isDown] = [[item(2)], false];
	await page.route(/\/api\/v1\/invocations\?/, (route) =>
		isDown ? route.abort() : route.fulfill({ json: { items: known, next: null } }),
	);
	await page.goto("/t/default/invocations");
	await expect(rowsOf(page).filter({ hasText: "number 2" })).toBeVisible();
	await settled(page);
	isDown = true;
	// It is tried once, at the top of a list that nobody touches.
	const failed = page.waitForEvent("requestfailed");
	await pushes.push("invocations", "invocation.queued", { ...item(1), seq: 1, state: "queued" });
	await failed;
	const pill = page.getByRole("button", { name: "1 new" });
	await expect(pill).toBeVisible();
	[known, isDown] = [[item(1), item(2)], false];
	await pill.click();
	await expect(rowsOf(page).filter({ hasText: "number 1" })).toBeVisible();
	await expect(pill).toHaveCount(0);
});
