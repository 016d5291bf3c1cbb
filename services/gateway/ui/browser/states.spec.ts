/** Every page while it loads, while the mesh fails, while there is nothing, and while there is no network. */
import { emptyOf, PAGES, pathOf } from "./support/pages";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

/** What the page's own reads ask; signing in and the socket go on. */
const READS = /\/api\/(?!v1\/(auth|ws))|\/health$/;

for (const of of PAGES) {
	const { name } = of;
	test(`${name} says what failed and goes on when it works again`, async ({ page, watch }, info) => {
		watch.allow(/50[03]/);
		let isDown = true;
		const problem = { type: "mesh/internal", title: "Something inside failed", status: 500, detail: "told by the test" };
		await page.route(READS, (route) => {
			if (!isDown || route.request().method() !== "GET") return route.fallback();
			const headers = { "content-type": "application/problem+json", "x-request-id": "req_told" };
			return route.fulfill({ status: 500, headers, body: JSON.stringify(problem) });
		});
		await page.goto(pathOf(of.path));
		const alert = page.locator("main").getByRole("alert").first();
		await expect(alert).toContainText("told by the test");
		await expect(alert).toContainText("req_told");
		await noSidewaysScroll(page);
		await accessible(page);
		await page.screenshot({ path: `screenshots/${name}-failing-${info.project.name}.png` });
		isDown = false;
		const again = page.locator("main").getByRole("button", { name: "Try again" });
		// Its button goes with the first answer: a click that comes too late is none.
		await expect(async () => {
			if ((await again.count()) > 0) await again.first().click({ timeout: 500 });
			expect(await again.count()).toBe(0);
		}).toPass();
		await expect(page.locator("main").getByRole("alert")).toHaveCount(0);
	});

	test(`${name} loads with a skeleton, shows nothing as empty and tells when it is offline`, async ({ page, context, watch }, info) => {
		watch.allow("ERR_INTERNET_DISCONNECTED");
		let release = () => {};
		const held = new Promise<void>((resolve) => {
			release = resolve;
		});
		await page.route(READS, async (route) => {
			await held;
			await route.fallback();
		});
		await page.goto(emptyOf(of, `empty-${info.project.name}`));
		// At a small width a talk has the room of the list of talks.
		await expect(page.locator("main [aria-busy=true]").filter({ visible: true }).first()).toBeVisible();
		await noSidewaysScroll(page);
		await page.screenshot({ path: `screenshots/${name}-loading-${info.project.name}.png` });
		release();
		await settled(page);
		await noSidewaysScroll(page);
		await accessible(page);
		await page.screenshot({ path: `screenshots/${name}-empty-${info.project.name}.png` });
		await context.setOffline(true);
		await expect(page.getByRole("banner")).toContainText("offline since");
		await noSidewaysScroll(page);
		await page.screenshot({ path: `screenshots/${name}-offline-${info.project.name}.png` });
		await context.setOffline(false);
		await settled(page);
	});
}

test("sign-in says what failed, loads with a skeleton, and tells when it is offline", async ({ page, context, watch }, info) => {
	watch.allow(/50[03]|ERR_INTERNET_DISCONNECTED/);
	let answer: "held" | "failing" | "good" = "held";
	let release = () => {};
	const held = new Promise<void>((resolve) => {
		release = resolve;
	});
	await page.route("**/api/v1/auth/methods", async (route) => {
		if (answer === "held") await held;
		if (answer === "good") return route.fallback();
		const problem = { type: "mesh/internal", title: "Something inside failed", status: 500, detail: "told by the test" };
		return route.fulfill({ status: 500, contentType: "application/problem+json", body: JSON.stringify(problem) });
	});
	await page.goto("/sign-in");
	await expect(page.locator("main [aria-busy=true]")).toBeVisible();
	await page.screenshot({ path: `screenshots/sign-in-loading-${info.project.name}.png` });
	answer = "failing";
	release();
	await expect(page.getByRole("alert")).toContainText("told by the test");
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/sign-in-failing-${info.project.name}.png` });
	answer = "good";
	await context.setOffline(true);
	await page.getByRole("button", { name: "Try again" }).click();
	await expect(page.getByRole("alert")).toContainText("cannot be reached");
	await page.screenshot({ path: `screenshots/sign-in-offline-${info.project.name}.png` });
	await context.setOffline(false);
	await page.getByRole("button", { name: "Try again" }).click();
	await expect(page.getByRole("link", { name: "Go on" })).toBeVisible();
});
