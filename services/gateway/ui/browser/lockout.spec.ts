/** Wrong passwords. Alone and last: the lockout is of the account and of the address, which all tests share. */
import { signIn, test } from "./support/people";
import { accessible, expect } from "./support/test";

test("five wrong passwords lock out, and the time left is said", async ({ page, watch, person }) => {
	watch.allow("401");
	watch.allow("429");
	const login = await person("viewer");
	await page.goto("/sign-in");
	const left = page.getByText(/\b\d+ s\b/).first();
	const password = page.locator("input[type=password]");
	const answered = async () => (await left.isVisible()) || (await password.inputValue()) === "";
	// Where an attempt takes long, the first ones are forgotten before the fifth: then it takes more of them.
	let wrong = 0;
	for (; wrong < 15 && !(await left.isVisible()); wrong++) {
		await signIn(page, login, `wrong password ${wrong}`);
		await expect.poll(answered, { timeout: 20_000 }).toBe(true);
		await expect(page.getByRole("alert")).toBeVisible();
	}
	expect(wrong, "four wrong ones are borne").toBeGreaterThanOrEqual(5);
	await expect(left).toBeVisible();
	await expect(page.locator("button[type=submit]")).toBeDisabled();
	await accessible(page);
	await expect(page).toHaveURL(/\/sign-in/);
});
