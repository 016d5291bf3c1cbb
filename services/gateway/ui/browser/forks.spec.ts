/** What if: forks with an edit, their forecast held against what really ran, and branches side by side. */
import type { Page } from "@playwright/test";
import { ask, callsOf, get, type Invocation, llm, stepsOf, tool, until } from "./support/agents";
import { declare, post } from "./support/seed";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

const idIn = (page: Page) => /inv_\w+/.exec(page.url())?.[0] ?? "";

/** The branch's page, once the browser is there. */
async function branchOf(page: Page, source: string): Promise<string> {
	await expect.poll(() => idIn(page)).not.toBe(source);
	return idIn(page);
}

test("a step is forked with another question, and the branch is held against its source", async ({ page, meshUrl }, info) => {
	const agent = `forked-${info.project.name}`;
	await declare({ url: meshUrl }, agent, llm(""));
	const { id } = await ask(meshUrl, agent, "Count the apples");
	const asked = (await stepsOf(meshUrl, id)).find(({ kind }) => kind === "model")?.number ?? 0;
	await page.goto(`/t/default/invocations/${id}?step=${asked}`);
	await settled(page);
	await page.getByRole("button", { name: `Fork at ${asked}` }).click();
	const dialog = page.getByRole("dialog");
	const question = dialog.getByRole("textbox", { name: /^user, message/ });
	await expect(question).toHaveValue("Count the apples");
	await question.fill("Count the pears");
	const forecast = dialog.getByRole("region", { name: "Forecast" });
	await dialog.getByRole("button", { name: "Not now" }).focus();
	await expect(forecast).toContainText("runs edited, costs");
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/fork-${info.project.name}.png` });
	await dialog.getByRole("button", { name: "Fork: 1 model call" }).click();
	const branch = await branchOf(page, id);
	const ended = await until(meshUrl, branch, "completed");
	expect(ended.output?.text).toContain("Count the pears");
	expect(ended.forked_from).toEqual({ invocation: id, step: asked });
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "completed" })).toBeVisible();
	await page.getByRole("button", { name: /^Compare/ }).click();
	const comparison = page.getByRole("region", { name: "Comparison" });
	await expect(comparison).toContainText(/\d+ of \d+ pairs differ/);
	await expect(comparison.locator("del").filter({ hasText: /^apples$/ })).toBeVisible();
	await expect(comparison.locator("ins").filter({ hasText: /^pears$/ })).toBeVisible();
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/compare-${info.project.name}.png` });
	await page.keyboard.press("Escape");
	await expect(comparison).toBeHidden();
	await page.getByRole("navigation", { name: "Branches" }).getByRole("link", { name: "main" }).click();
	await expect.poll(() => idIn(page)).toBe(id);
});

test("17: what a fork says it would call is what it calls on an unchanged path", async ({ page, meshUrl }, info) => {
	const agent = `ledger-${info.project.name}`;
	const place = (name: string) => `${name}-${agent}`;
	const tools = [
		tool("lookup", place("lookup"), "idempotent"),
		tool("weigh", place("weigh"), "pure"),
		tool("pay", place("pay"), "at_most_once"),
	];
	await declare({ url: meshUrl }, agent, llm("payment", tools));
	const { id } = await ask(meshUrl, agent, "Pay invoice 88");
	const counts = async () => {
		const of = async (name: string) => (await callsOf(place(name))).length;
		return { lookup: await of("lookup"), weigh: await of("weigh"), pay: await of("pay") };
	};
	expect(await counts()).toEqual({ lookup: 1, weigh: 1, pay: 1 });
	const first = (await stepsOf(meshUrl, id)).find(({ kind }) => kind === "model")?.number ?? 0;
	await page.goto(`/t/default/invocations/${id}?step=${first}&fork=${first}`);
	const dialog = page.getByRole("dialog");
	await dialog.getByText("nothing", { exact: true }).click();
	const fate = (name: RegExp) => dialog.getByRole("region", { name: "Forecast" }).getByRole("listitem").filter({ hasText: name });
	await expect(fate(/^\d+lookup/)).toContainText("the world sees it again");
	await expect(fate(/^\d+weigh/)).toContainText("runs");
	await expect(fate(/^\d+pay/)).toContainText("answered from the recording");
	await dialog.getByRole("button", { name: "Fork: 3 model calls, 2 real tool calls, 1 may ask" }).click();
	const branch = await branchOf(page, id);
	await until(meshUrl, branch, "completed");
	expect(await counts()).toEqual({ lookup: 2, weigh: 2, pay: 1 });
	const models = (await stepsOf(meshUrl, branch)).filter(({ kind }) => kind === "model");
	expect(models).toHaveLength(3);
	// Under keys of its own.
	const keys = (await callsOf(place("lookup"))).map(({ key }) => key.split("/")[0]);
	expect(keys).toEqual([id, branch]);
});

test("18: a comparison at 6 folds 1–5 and has the focus on the first difference", async ({ page, meshUrl }, info) => {
	const agent = `compared-${info.project.name}`;
	const tools = [
		tool("lookup", `a-${agent}`, "idempotent"),
		tool("weigh", `b-${agent}`, "pure"),
		tool("pay", `c-${agent}`, "idempotent"),
	];
	await declare({ url: meshUrl }, agent, llm("payment", tools));
	const source = await ask(meshUrl, agent, "Pay invoice 88");
	const steps = await stepsOf(meshUrl, source.id);
	expect(steps.length).toBeGreaterThanOrEqual(6);
	const sixth = steps.find(({ number }) => number === 6);
	const edit = sixth?.kind === "model" ? { output: "Edited by the test" } : { output: { edited: true } };
	const forked = await post<{ invocation: Invocation }>(meshUrl, `/api/v1/invocations/${source.id}/fork`, { from_step: 6, edit });
	await until(meshUrl, forked.invocation.id, "completed");
	await page.goto(`/t/default/invocations/${forked.invocation.id}?compare=${source.id}`);
	const fold = page.getByRole("button", { name: "steps 1–5 are one recording, read by both" });
	await expect(fold).toHaveAttribute("aria-expanded", "false");
	const first = page.locator('[data-pair][data-differs="true"]').first();
	await expect(first).toBeFocused();
	await expect(first).toContainText("6 ");
	const fifth = page.getByRole("listitem").filter({ hasText: /^5 / });
	await expect(fifth).toHaveCount(0);
	await fold.click();
	await expect(fifth).toBeVisible();
	await accessible(page);
	const read = await get<{ items: unknown[] }>(meshUrl, `/api/v1/invocations?root=${source.id}`);
	expect(read.items).toHaveLength(2);
});
