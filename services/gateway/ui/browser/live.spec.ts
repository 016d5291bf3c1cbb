/** What runs, as it runs: tokens that come, tries that are void, and the record that replaces what was streamed. */
import type { Page } from "@playwright/test";
import { get, type Invocation, llm, start, until } from "./support/agents";
import { routePushes } from "./support/pushes";
import { ID, routeRecording, step } from "./support/recording";
import { declare, post } from "./support/seed";
import { accessible, expect, settled, test } from "./support/test";

/** An invocation that speaks when the test says so: it waits for a signal until then. */
async function held(url: string, agent: string, script: string): Promise<{ id: string; begin(): Promise<unknown> }> {
	await declare({ url }, agent, llm(script, ["wait_signal"]));
	const id = await start(url, agent, "talk");
	await until(url, id, "waiting");
	return { id, begin: () => post(url, `/api/v1/invocations/${id}/signal`, { name: "go" }) };
}

/** Notes each text that is shown as being written, from now on. */
async function noteTexts(page: Page): Promise<() => Promise<string[]>> {
	await page.evaluate(() => {
		const texts: string[] = [];
		Object.assign(window, { texts });
		new MutationObserver(() => {
			const text = document.querySelector('[role=log][aria-label="What it writes"] pre')?.textContent ?? "";
			if (text !== (texts.at(-1) ?? "")) texts.push(text);
		}).observe(document.body, { subtree: true, childList: true, characterData: true });
	});
	return () => page.evaluate(() => (window as unknown as { texts: string[] }).texts);
}

const textOf = async (url: string, id: string) => (await get<Invocation>(url, `/api/v1/invocations/${id}`)).output?.text ?? "";

test("16: tokens grow in place until the record replaces them", async ({ page, meshUrl }, info) => {
	const { id, begin } = await held(meshUrl, `told-${info.project.name}`, "told");
	await page.goto(`/t/default/invocations/${id}`);
	await expect(page.getByText("waits for the signal go")).toBeVisible();
	await settled(page);
	const shown = await noteTexts(page);
	await begin();
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "completed" })).toBeVisible({ timeout: 30_000 });
	await expect(page.locator("[data-streaming]")).toHaveCount(0);
	const final = await textOf(meshUrl, id);
	const texts = (await shown()).filter((text) => text !== "");
	expect(texts.length).toBeGreaterThan(5);
	for (const [index, text] of texts.entries()) {
		expect(final.startsWith(text.trimEnd())).toBe(true);
		if (index > 0) expect(text.length).toBeGreaterThan(texts[index - 1]?.length ?? 0);
	}
	// The end is the record.
	await expect(page.getByRole("tabpanel").locator("pre").filter({ hasText: final.trim() })).toBeVisible();
	await expect(page.locator("s")).toHaveCount(0);
	await accessible(page);
});

test("16: a try that broke off is struck, and nothing void is in what follows", async ({ page, meshUrl }, info) => {
	const { id, begin } = await held(meshUrl, `halfway-${info.project.name}`, "halfway");
	await page.goto(`/t/default/invocations/${id}`);
	await expect(page.getByText("waits for the signal go")).toBeVisible();
	await settled(page);
	const shown = await noteTexts(page);
	await begin();
	const done = page.getByRole("main").getByRole("status").filter({ hasText: "completed" });
	await expect(done).toBeVisible({ timeout: 30_000 });
	await expect(page.locator("[data-streaming]")).toHaveCount(0);
	const final = await textOf(meshUrl, id);
	for (const text of await shown()) expect(final.startsWith(text.trimEnd())).toBe(true);
	await expect(page.locator("s")).toContainText("w0 w1");
	await expect(page.getByText("try 1, void")).toBeVisible();
	await expect(page.getByRole("tabpanel").locator("pre").filter({ hasText: final.trim() })).toHaveCount(1);
	await page.reload();
	await settled(page);
	await expect(page.locator("s")).toHaveCount(0);
});

test("16: a token is in the document soon after it came @wide", async ({ page }, info) => {
	const pushes = await routePushes(page);
	await routeRecording(page, [step(1, "model", "gpt-4", 0, null, "null")], { state: "running", ended_at: null, cursor: 1 });
	// When it was sent stands in it: what is measured is the way to the page, too.
	await page.addInitScript(() => {
		const delays = new Map<string, number>();
		Object.assign(window, { delays });
		new MutationObserver(() => {
			const text = document.querySelector("[role=log] pre")?.textContent ?? "";
			for (const [token, at] of text.matchAll(/\bt(\d+)/g)) if (!delays.has(token)) delays.set(token, Date.now() - Number(at));
		}).observe(document, { subtree: true, childList: true, characterData: true });
	});
	await page.goto(`/t/default/invocations/${ID}`);
	await expect(page.getByRole("region", { name: "Step 1", exact: true })).toBeVisible();
	await settled(page);
	for (let number = 0; number < 50; number++) {
		await pushes.push(`invocation:${ID}`, "token", { step: 1, attempt: 1, text: `t${Date.now()} ` });
		await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
	}
	await pushes.push(`invocation:${ID}`, "token", { step: 1, attempt: 1, text: "last" });
	await expect(page.getByRole("log")).toContainText("last");
	const delays = await page.evaluate(() => [...(window as unknown as { delays: Map<string, number> }).delays.values()]);
	expect(delays.length).toBeGreaterThan(20);
	info.annotations.push({ type: "token shown after", description: `${Math.round(Math.max(...delays))} ms at most, of ${delays.length}` });
	await pushes.push(`invocation:${ID}`, "reset", { step: 1, attempt: 2 });
	await pushes.push(`invocation:${ID}`, "token", { step: 1, attempt: 2, text: "anew" });
	await expect(page.getByRole("log")).toHaveText("anew");
	await expect(page.locator("s")).toContainText("last");
});

test("a talk is stopped in the middle, and says so", async ({ page, meshUrl }, info) => {
	const agent = `sleeper-talk-${info.project.name}`;
	await declare({ url: meshUrl }, agent, llm("tools", ["sleep"]));
	await page.goto(`/t/default/agents/${agent}?tab=try`);
	await settled(page);
	await page.getByRole("textbox", { name: `Message to ${agent}` }).fill('{"seconds": 600}');
	await page.getByRole("button", { name: "Send" }).click();
	const answer = page.getByRole("article", { name: `Answer of ${agent}` });
	await expect(answer).toContainText("sleeps until");
	await accessible(page);
	await answer.getByRole("button", { name: "Stop" }).click();
	await expect(answer).toContainText("cancelled");
	await expect(answer.getByRole("button", { name: "Stop" })).toHaveCount(0);
});
