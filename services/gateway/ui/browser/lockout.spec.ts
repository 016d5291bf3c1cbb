/** Wrong passwords. Alone and last: the lockout is of the account and of the address, which all tests share. */
import type { Page } from "@playwright/test";
import { signIn, test } from "./support/people";
import { accessible, expect } from "./support/test";

/** Attempts until it is said how long to wait. */
async function wrongOnes(page: Page, login: string): Promise<number> {
	const left = leftOf(page);
	const password = page.locator("input[type=password]");
	const answered = async () => (await left.isVisible()) || (await password.inputValue()) === "";
	// Where an attempt takes long, the first ones are forgotten before the fifth: then it takes more of them.
	let wrong = 0;
	for (; wrong < 15 && !(await left.isVisible()); wrong++) {
		await signIn(page, login, `wrong password ${wrong}`);
		await expect.poll(answered, { timeout: 20_000 }).toBe(true);
		await expect(page.getByRole("alert")).toBeVisible();
	}
	return wrong;
}

function leftOf(page: Page) {
	return page.getByText(/\b\d+ s\b/).first();
}

test("five wrong passwords lock out, and the time left is said", async ({ page, watch, person }) => {
	test.setTimeout(150_000);
	watch.allow("401");
	watch.allow("429");
	const [first, second] = [await person("viewer"), await person("operator")];
	await page.goto("/sign-in");
	let wrong = await wrongOnes(page, first);
	if (wrong < 5) {
		// Others were wrong at this address within the last minutes: that is over with this lock.
		await expect(leftOf(page)).toBeHidden({ timeout: 40_000 });
		wrong = await wrongOnes(page, second);
	}
	expect(wrong, "four wrong ones are borne").toBeGreaterThanOrEqual(5);
	await expect(leftOf(page)).toBeVisible();
	await expect(page.locator("button[type=submit]")).toBeDisabled();
	await accessible(page);
	await expect(page).toHaveURL(/\/sign-in/);
});
