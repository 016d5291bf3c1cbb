/** What is around every page: keys, palette, switches, tenants, connection, policy and size. */
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import type { WebSocketRoute } from "@playwright/test";
import { ask } from "./support/agents";
import { declare } from "./support/seed";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

test("the first visit shows the overview of the tenant, in development mode and live", async ({ page }) => {
	await page.goto("/");
	await expect(page).toHaveURL(/\/t\/default$/);
	await expect(page.getByRole("note")).toContainText("Development mode");
	await settled(page);
	await expect(page.getByRole("table", { name: "Agents" })).toContainText("ada");
});

test("keys go to pages, open the palette and can be turned off @keyboard", async ({ page }) => {
	await page.goto("/t/default");
	await settled(page);
	await page.keyboard.press("g");
	await page.keyboard.press("i");
	await expect(page).toHaveURL(/\/invocations$/);
	await page.keyboard.press("?");
	const keys = page.getByRole("dialog", { name: "Keys" });
	await expect(keys).toContainText("find a page");
	await accessible(page);
	await keys.getByRole("switch").click();
	await page.keyboard.press("Escape");
	await expect(keys).toBeHidden();
	await page.keyboard.press("g");
	await page.keyboard.press("o");
	await expect(page).toHaveURL(/\/invocations$/);
	await page.keyboard.press("Control+k");
	const palette = page.getByRole("dialog", { name: "Find" });
	await palette.getByRole("combobox").fill("ada");
	await expect(palette.getByRole("option", { name: "agent ada" })).toBeVisible();
	await accessible(page);
	await page.keyboard.press("Enter");
	await expect(page).toHaveURL(/\/agents\/ada/);
});

test("a pasted id leads to its invocation", async ({ page, request }) => {
	const list = await (await request.get("/api/v1/invocations?limit=1")).json();
	const id = String(list.items[0].id);
	await page.goto("/t/default");
	await settled(page);
	await page.keyboard.press("Control+k");
	await page.getByRole("combobox").fill(`… id=${id} …`);
	await page.getByRole("option", { name: `invocation ${id}` }).click();
	await expect(page).toHaveURL(new RegExp(`/invocations/${id}`));
});

test("times and colours switch, and stay", async ({ page }) => {
	await page.goto("/t/default/invocations");
	await settled(page);
	await page.getByRole("button", { name: "Times are local; switch" }).click();
	await page.getByRole("button", { name: /^Menu of/ }).click();
	await page.getByRole("menuitem", { name: "dark" }).click();
	await page.reload();
	await settled(page);
	await expect(page.getByRole("button", { name: "Times are UTC; switch" })).toBeVisible();
	await expect(page.locator("html")).toHaveAttribute("data-mantine-color-scheme", "dark");
});

test("another tenant keeps the page", async ({ page }) => {
	await page.goto("/t/daarion/invocations");
	await settled(page);
	await page.getByRole("button", { name: "Tenant daarion; switch" }).click();
	await page.getByRole("menuitem", { name: "default" }).click();
	await expect(page).toHaveURL(/\/t\/default\/invocations$/);
	await settled(page);
	await expect(page.getByRole("table", { name: "Invocations" })).toContainText("ada@1");
});

test("11: a cut is shown within 2 s, turns writes off, and is made good", async ({ page, context, meshUrl, watch }) => {
	watch.allow("ERR_INTERNET_DISCONNECTED");
	await page.goto("/t/default/invocations");
	await settled(page);
	await context.setOffline(true);
	await expect(page.getByRole("banner")).toContainText("offline since", { timeout: 2_000 });
	await expect(page.locator("main")).toContainText("as of");
	await fetch(`${meshUrl}/api/v1/agents/ada/invocations?wait=20`, {
		method: "POST",
		headers: { "content-type": "application/json" },
		body: JSON.stringify({ payload: { text: "While you were away" } }),
	});
	await context.setOffline(false);
	await settled(page);
	await expect(page.locator("main")).not.toContainText("as of");
	await page.getByRole("button", { name: /new$/ }).or(page.getByRole("row").nth(1)).first().waitFor();
	await expect(page.getByRole("row").filter({ hasText: "completed" }).first()).toBeVisible();
});

test("11: a socket that is closed is opened again, now if one likes, and nothing is lost or twice", async ({ page, meshUrl }, info) => {
	const sockets: WebSocketRoute[] = [];
	let isRefused = false;
	await page.routeWebSocket(/\/api\/v1\/ws/, (socket) => {
		if (isRefused) return void socket.close({ code: 1012 });
		socket.connectToServer();
		sockets.push(socket);
	});
	const agent = `cut-${info.project.name}`;
	await declare({ url: meshUrl }, agent, { model: { name: "mock" }, memory: { query_top_k: 0, writeback: false } });
	const ids = [await ask(meshUrl, agent, "one")];
	await page.goto(`/t/default/invocations?agent=${agent}`);
	await settled(page);
	const rows = page.getByRole("table", { name: "Invocations" }).getByRole("row").filter({ hasText: `${agent}@1` });
	await expect(rows).toHaveCount(1);
	isRefused = true;
	await sockets[0]?.close({ code: 1012 });
	const mark = page.getByRole("banner").getByRole("status").first();
	await expect(mark).toHaveText(/reconnecting|catching up/);
	await expect(page.getByRole("main")).toContainText("as of");
	ids.push(await ask(meshUrl, agent, "two"), await ask(meshUrl, agent, "three"));
	await accessible(page);
	await noSidewaysScroll(page);
	isRefused = false;
	await page.getByRole("button", { name: "now", exact: true }).click({ timeout: 5_000 }).catch(() => undefined);
	await expect(mark).toHaveText("live");
	const fresh = page.getByRole("button", { name: /new$/ });
	await expect(rows.nth(2).or(fresh).first()).toBeVisible();
	if (await fresh.isVisible()) await fresh.click();
	await expect(rows).toHaveCount(3);
	await expect(rows.filter({ hasText: "completed" })).toHaveCount(3);
	const links = await rows.getByRole("link").evaluateAll((all) => all.map((link) => link.getAttribute("href")?.replace(/.*\//, "")));
	expect([...links].sort()).toEqual(ids.map(({ id }) => id).sort());
	await expect(page.getByRole("main")).not.toContainText("as of");
});

test("12: one failing pane leaves the others working", async ({ page, watch }) => {
	watch.allow("/api/v1/overview");
	const problem = { type: "mesh/internal", title: "The mesh failed", status: 500, detail: "of its own" };
	const headers = { "content-type": "application/problem+json", "x-request-id": "req_test" };
	let isDown = true;
	await page.route("**/api/v1/overview*", (route) =>
		isDown ? route.fulfill({ status: 500, headers, body: JSON.stringify(problem) }) : route.continue(),
	);
	await page.goto("/t/default");
	const alert = page.getByRole("alert");
	await expect(alert).toContainText("mesh/internal");
	await expect(alert).toContainText("req_test");
	await accessible(page);
	isDown = false;
	await alert.getByRole("button", { name: "Try again" }).click();
	await expect(page.getByRole("list", { name: "Now" })).toBeVisible();
	await page.getByRole("link", { name: "Invocations" }).first().click();
	await expect(page.getByRole("table", { name: "Invocations" })).toBeVisible();
});

test("a part that is gone with its release has the page loaded anew, once, and else is said @wide", async ({ page, watch }) => {
	watch.allow(/ERR_FAILED|dynamically imported|was updated while/);
	await page.goto("/t/default");
	await settled(page);
	const mark = () => page.evaluate(() => void Object.assign(window, { isOld: true }));
	const isOld = () => page.evaluate(() => "isOld" in window);
	// The page of before the release asks for what is not there any more, as soon as a link is pointed at.
	let isGone = true;
	page.on("request", (request) => {
		if (request.isNavigationRequest()) isGone = false;
	});
	await page.route(/\/assets\/[^/]*\.js$/, (route) => (isGone ? route.abort() : route.fallback()));
	await mark();
	await page.getByRole("link", { name: "Nodes", exact: true }).click();
	await expect(page.getByRole("table", { name: "Nodes" })).toBeVisible();
	expect(await isOld()).toBe(false);
	await settled(page);
	// It fails again: now somebody is asked, and loses nothing that was typed.
	isGone = true;
	await mark();
	await page.getByRole("link", { name: "Memory", exact: true }).click();
	const alert = page.getByRole("main").getByRole("alert");
	await expect(alert).toContainText("A part of this page could not be loaded");
	await accessible(page);
	await noSidewaysScroll(page);
	expect(await isOld()).toBe(true);
	await alert.getByRole("button", { name: "Load the page anew" }).click();
	await expect(page).toHaveURL(/\/memory/);
	await settled(page);
	expect(await isOld()).toBe(false);
	await expect(page.getByRole("main").getByRole("alert")).toHaveCount(0);
	// What lies over a page leaves it as it is.
	isGone = true;
	await page.keyboard.press("Control+k");
	await expect(alert).toContainText("could not be loaded");
	await expect(page.getByPlaceholder("what does Ann drink?")).toBeVisible();
});

// What a first visit loads, packed; the policy.
test("25: the first load is small and its policy strict", async ({ page }) => {
	const scripts: string[] = [];
	page.on("response", (response) => {
		if (response.url().endsWith(".js")) scripts.push(response.url());
	});
	const answer = await page.goto("/t/default");
	const policy = answer?.headers()["content-security-policy"] ?? "";
	expect(policy).toContain("default-src 'none'");
	expect(policy).not.toContain("unsafe");
	await settled(page);
	const sizes = await Promise.all(
		scripts.map(async (url) => {
			const path = new URL(url).pathname;
			return gzipSync(readFileSync(new URL(`../dist${path}`, import.meta.url))).length;
		}),
	);
	const all = sizes.reduce((sum, size) => sum + size, 0);
	test.info().annotations.push({ type: "first load", description: `${Math.round(all / 1_024)} KB gzip` });
	expect(all).toBeLessThan(300 * 1_024);
});
