/** People of the mesh that demands credentials, and how they sign in. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { test as base } from "./test";

const PASSWORD = "correct horse battery";

export const test = base.extend<{ person: (role: string) => Promise<string> }>({
	meshUrl: async ({}, use) => use(process.env.BROWSER_CLOSED_URL ?? ""),
	/** A new person of the tenant; answers the login. */
	person: async ({ meshUrl }, use, info) => {
		const key = readFileSync(join(process.env.BROWSER_CLOSED_HOME ?? "", "api-key"), "utf8").trim();
		await use(async (role) => {
			const login = `ann-${info.testId.slice(-12)}-${info.retry}-${role}`;
			const response = await fetch(`${meshUrl}/api/v1/users`, {
				method: "POST",
				headers: { "content-type": "application/json", "X-Service-API-Key": key },
				body: JSON.stringify({ login, name: "Ann", role, password: PASSWORD }),
			});
			if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
			return login;
		});
	},
});

export async function signIn(page: Page, login: string, password = PASSWORD): Promise<void> {
	await page.getByLabel("Login").fill(login);
	await page.locator("input[type=password]").fill(password);
	await page.getByRole("button", { name: "Sign in", exact: true }).click();
}
