/** Signing in to a mesh that demands credentials: the link asked for, renewed tokens, an expired sign-in. */
import { signIn, test } from "./support/people";
import { accessible, expect, settled } from "./support/test";

test("signing in leads back to the link; signing out ends it", async ({ page, watch, person }) => {
	watch.allow("401");
	const login = await person("operator");
	await page.goto("/t/default/invocations?state=failed");
	await expect(page).toHaveURL(/\/sign-in\?/);
	await accessible(page);
	await signIn(page, login);
	await expect(page).toHaveURL(/\/t\/default\/invocations\?state=failed$/);
	await settled(page);
	await expect(page.getByRole("note")).toHaveCount(0);
	// The refresh token's cookie: another load needs no password.
	await page.reload();
	await settled(page);
	expect(await page.evaluate(() => [localStorage, sessionStorage].map((kept) => JSON.stringify(kept)).join())).not.toContain("eyJ");
	await page.getByRole("button", { name: /^Menu of/ }).click();
	await page.getByRole("menuitem", { name: "sign out" }).click();
	await expect(page.getByText("You are signed out.")).toBeVisible();
	await page.goto("/t/default");
	await expect(page).toHaveURL(/\/sign-in\?/);
});

test("a token is renewed on need and by one request", async ({ page, watch, person }) => {
	watch.allow("401");
	const login = await person("operator");
	await page.clock.install();
	await page.goto("/sign-in?return_to=%2Ft%2Fdefault");
	await signIn(page, login);
	await settled(page);
	// What the last events asked for is on its way before the clock jumps.
	await page.clock.runFor(5_000);
	await settled(page);
	watch.forget();
	await page.clock.fastForward("09:35");
	expect(watch.requests).toEqual([]);
	await page.getByRole("link", { name: "Invocations" }).first().click();
	await expect(page.getByRole("heading", { name: "Invocations" })).toBeVisible();
	await settled(page);
	expect(watch.requests.filter((one) => one.endsWith("/auth/refresh"))).toHaveLength(1);
	await expect(page.getByRole("alert")).toHaveCount(0);
});

test("an expired sign-in is said and leads back", async ({ page, context, watch, person }) => {
	watch.allow("401");
	const login = await person("operator");
	await page.clock.install();
	await page.goto("/sign-in?return_to=%2Ft%2Fdefault");
	await signIn(page, login);
	await settled(page);
	await page.clock.runFor(5_000);
	await settled(page);
	await context.clearCookies();
	await page.clock.fastForward("09:35");
	await page.getByRole("link", { name: "Invocations" }).first().click();
	await expect(page.getByText("Your sign-in has expired.")).toBeVisible();
	await signIn(page, login);
	await expect(page).toHaveURL(/\/t\/default\/invocations/);
	await settled(page);
});

test("a viewer is offered no writes, and told why", async ({ page, watch, person }) => {
	watch.allow("401");
	const login = await person("viewer");
	await page.goto("/sign-in?return_to=%2Ft%2Fdefault%2Fagents");
	await signIn(page, login);
	await settled(page);
	const create = page.getByRole("button", { name: /^New agent/ });
	await expect(create).toHaveAttribute("title", /needs role developer; you are viewer/);
});

test("one's own password is changed with the current one, and only so", async ({ page, watch, person, meshUrl }) => {
	watch.allow("401");
	watch.allow(/40[03]|422/);
	const login = await person("viewer");
	await page.goto("/sign-in?return_to=%2Ft%2Fdefault%2Fsettings");
	await signIn(page, login);
	await settled(page);
	await page.getByRole("button", { name: "Your password" }).click();
	const dialog = page.getByRole("dialog", { name: `New password of ${login}` });
	await dialog.getByLabel("Current password").fill("not the current one");
	await dialog.getByLabel("New password").fill("battery staple horse");
	await accessible(page);
	await dialog.getByRole("button", { name: "Change it" }).click();
	await expect(dialog.getByRole("alert")).toBeVisible();
	await dialog.getByLabel("Current password").fill("correct horse battery");
	await dialog.getByRole("button", { name: "Change it" }).click();
	await expect(dialog).toContainText("It is changed.");
	const enter = (password: string) =>
		fetch(`${meshUrl}/api/v1/auth/sign-in`, {
			method: "POST",
			headers: { "content-type": "application/json" },
			body: JSON.stringify({ login, password }),
		});
	expect((await enter("battery staple horse")).status).toBe(200);
});
