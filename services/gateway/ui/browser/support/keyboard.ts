/** A person without a mouse: Tab until the thing has the focus, then type. */
import { expect, type Locator, type Page } from "@playwright/test";

const TABS_MAX = 150;

/** Tabs to it from where the focus is. */
export async function tabTo(page: Page, target: Locator, key: "Tab" | "Shift+Tab" = "Tab"): Promise<void> {
	await expect(target).toBeVisible();
	for (let tabs = 0; tabs < TABS_MAX; tabs++) {
		if (await target.evaluate((element) => element === document.activeElement)) return;
		await page.keyboard.press(key);
	}
	throw new Error(`Tab does not lead to ${target.toString()}`);
}

/** Tabs to it and presses Enter. */
export async function pressOn(page: Page, target: Locator): Promise<void> {
	await tabTo(page, target);
	await page.keyboard.press("Enter");
}
