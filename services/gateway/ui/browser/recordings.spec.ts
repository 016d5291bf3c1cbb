/** The debugger on recordings that nobody can wait for: 10,000 steps, 5 MB, two hours; numbers of any length. */
import { createHash } from "node:crypto";
import type { Page } from "@playwright/test";
import { ask, llm, stepsOf, tool } from "./support/agents";
import { BEGIN, ID, type Recorded, routeRecording, step } from "./support/recording";
import { DIGITS } from "./support/scripts";
import { declare } from "./support/seed";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

const PATH = `/t/default/invocations/${ID}`;
const HOUR = 3_600_000;
const tree = (page: Page) => page.getByRole("tree", { name: "Steps" });

test("13: 10,000 steps open with one body read, and each can be reached", async ({ page }, info) => {
	const steps = Array.from({ length: 10_000 }, (_, index) => step(index + 1, index % 2 === 0 ? "model" : "tool", "one", index * 10, index * 10 + 9));
	const { bodies } = await routeRecording(page, steps);
	await page.goto("/t/default");
	await settled(page);
	const began = Date.now();
	// Within the page: what is measured is the debugger, not the first load.
	await page.evaluate((path) => {
		history.pushState({}, "", path);
		dispatchEvent(new PopStateEvent("popstate"));
	}, PATH);
	await expect(page.locator("dd", { hasText: "10,000" })).toBeVisible();
	await expect(page.getByRole("region", { name: "Step 9999" })).toBeVisible();
	info.annotations.push({ type: "10,000 steps open", description: `${Date.now() - began} ms` });
	await settled(page);
	expect(bodies).toEqual([9_999]);
	expect(await tree(page).getByRole("treeitem").count()).toBeLessThan(100);
	await tree(page).focus();
	await page.keyboard.press("Home");
	await expect(page.getByRole("region", { name: "Step 1", exact: true })).toBeVisible();
	await page.keyboard.press("End");
	await expect(page.getByRole("region", { name: "Step 10000" })).toBeVisible();
	await noSidewaysScroll(page);
});

/** JSON of a bit over 5 MB, with text in several scripts, long lines and numbers that no JavaScript number holds. */
function large(): string {
	const item = (index: number) => `{"id":900719925474${String(index).padStart(6, "0")}, "text":"${"Рядок → line ".repeat(12)}${index}"}`;
	return `{"rows": [${Array.from({ length: 22_000 }, (_, index) => item(index)).join(",\n ")}]}`;
}

test("14: a result of 5 MB is read beside the page and its raw bytes are the recorded ones", async ({ page, context }, info) => {
	const output = large();
	expect(Buffer.byteLength(output)).toBeGreaterThan(5_000_000);
	await context.grantPermissions(["clipboard-read", "clipboard-write"]);
	await routeRecording(page, [step(1, "tool", "export", 0, 1_000, output)]);
	await page.goto("/t/default");
	await settled(page);
	// Within the page: what is measured is the result, not the first load.
	await page.evaluate((path) => {
		const tasks: number[] = [];
		Object.assign(window, { tasks });
		new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" });
		history.pushState({}, "", path);
		dispatchEvent(new PopStateEvent("popstate"));
	}, PATH);
	const result = page.getByRole("tree", { name: "Result of step 1" });
	await expect(result).toContainText("rows");
	// The text is indexed by a worker, so that the page goes on.
	expect(page.workers().length).toBeGreaterThan(0);
	await expect(result).toContainText("22,000");
	const longest = await page.evaluate(() => Math.max(0, ...(window as unknown as { tasks: number[] }).tasks));
	info.annotations.push({ type: "longest task with a result of 5 MB", description: `${Math.round(longest)} ms` });
	await page.getByRole("tab", { name: "Raw" }).click();
	const raw = page.getByRole("region", { name: "Output, recorded" });
	await raw.getByRole("button", { name: "Copy Output, as recorded" }).click();
	await expect(raw.getByRole("status")).toHaveText("copied");
	const copied = await page.evaluate(() => navigator.clipboard.readText());
	const hash = (text: string) => createHash("sha256").update(text).digest("hex");
	expect(hash(copied)).toBe(hash(output));
	expect(await raw.locator("code").count()).toBeLessThan(200);
	await noSidewaysScroll(page);
});

test("15: 9007199254740993 shows so, in the tree, raw and in what the model saw", async ({ page, meshUrl }, info) => {
	const agent = `digits-${info.project.name}`;
	await declare({ url: meshUrl }, agent, llm("digits", [tool("lookup", agent, "pure")]));
	const { id } = await ask(meshUrl, agent, "look");
	const looked = (await stepsOf(meshUrl, id)).find(({ kind }) => kind === "tool");
	await page.goto(`/t/default/invocations/${id}?step=${looked?.number}`);
	const result = page.getByRole("tree", { name: `Result of step ${looked?.number}` });
	await expect(result).toContainText("9007199254740993");
	await expect(result).toContainText("-9007199254740995");
	await page.getByRole("tab", { name: "Raw" }).click();
	await expect(page.getByRole("region", { name: "Output, recorded" })).toContainText(DIGITS.slice(1, 27));
	await page.getByRole("tab", { name: "Arguments" }).click();
	await expect(page.getByRole("tree", { name: `Input of step ${looked?.number}` })).toContainText("9007199254740993");
});

test("19: a wait of two hours leaves the other bars at least 80 % of the width", async ({ page }) => {
	const steps: Recorded[] = [
		step(1, "model", "gpt-4", 0, 1_000),
		step(2, "approval", "pay", 1_000, 2 * HOUR, '{"approved":true,"by":"ann"}'),
		step(3, "tool", "pay", 2 * HOUR, 2 * HOUR + 1_000),
		step(4, "model", "gpt-4", 2 * HOUR + 1_000, 2 * HOUR + 2_000),
	];
	await routeRecording(page, steps, { ended_at: new Date(BEGIN + 2 * HOUR + 2_000).toISOString() });
	await page.goto(`${PATH}?scale=time`);
	await expect(tree(page).getByRole("treeitem")).toHaveCount(4);
	await expect(page.getByText(/~ (2 h|1 h 59 min|119 min)/).first()).toBeVisible();
	await settled(page);
	const share = await tree(page).evaluate((all) => {
		const bars = [...all.querySelectorAll<HTMLElement>('[role=treeitem] [data-kind]:not([data-kind="wait"])')];
		return bars.reduce((sum, bar) => sum + bar.getBoundingClientRect().width / (bar.parentElement?.getBoundingClientRect().width ?? 1), 0);
	});
	expect(share).toBeGreaterThanOrEqual(0.8);
	await accessible(page);
	await noSidewaysScroll(page);
});
