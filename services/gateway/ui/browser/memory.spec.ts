/** Memories: found with what their score is made of, changed with their history kept, forgotten with a receipt. */
import { get, llm } from "./support/agents";
import { declare, post } from "./support/seed";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

interface Page {
	readonly items: readonly { readonly id: string; readonly content: string }[];
}

test("a memory is found with its scores, edited and forgotten", async ({ page, meshUrl }, info) => {
	const agent = `mnemo-${info.project.name}`;
	await declare({ url: meshUrl }, agent, llm(""));
	for (const content of ["Ann drinks green tea in the morning", "The printer is in room 12", "Bob prefers coffee"]) {
		await post(meshUrl, "/api/v1/memories", { agent, type: "semantic", content, tags: ["office"] });
	}
	const left = async () => (await get<Page>(meshUrl, `/api/v1/memories?agent=${agent}`)).items.map(({ content }) => content).sort();
	expect(await left()).toHaveLength(3);
	await page.goto("/t/default/memory");
	await settled(page);
	await page.getByRole("combobox", { name: "Agent" }).fill(agent);
	await page.getByRole("option", { name: agent, exact: true }).click();
	await expect(page).toHaveURL(new RegExp(`agent=${agent}`));
	await page.getByRole("searchbox", { name: "Question" }).fill("green tea");
	await page.keyboard.press("Enter");
	const hits = page.getByRole("table", { name: "Memories nearest to the question, best first" });
	const best = hits.getByRole("row").nth(1);
	await expect(best).toContainText("Ann drinks green tea");
	await expect(best).toContainText(/words\s*\d\.\d{3}/);
	await expect(best).toContainText(/fusion\s*\d\.\d{3}/);
	await settled(page);
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/memory-found-${info.project.name}.png` });
	await best.getByRole("link", { name: /Ann drinks/ }).click();
	const open = page.getByRole("region", { name: "Memory, open" });
	await expect(open).toContainText("Never changed");
	await open.getByRole("button", { name: "Edit" }).click();
	const edit = page.getByRole("dialog", { name: "Edit the memory" });
	await edit.getByRole("textbox", { name: "What is remembered" }).fill("Ann drinks black tea in the morning");
	await accessible(page);
	await edit.getByRole("button", { name: "Save" }).click();
	await expect(edit).toBeHidden();
	await expect(open).toContainText("Ann drinks black tea");
	await expect(open).toContainText("version 1, until");
	await expect(open.getByRole("listitem")).toContainText("Ann drinks green tea");
	await open.getByRole("button", { name: "Forget" }).click();
	const forget = page.getByRole("dialog", { name: "Forget" });
	await expect(forget).toContainText("nothing brings it back");
	await accessible(page);
	await forget.getByRole("button", { name: "Forget 1 memory" }).click();
	await expect(open).toBeHidden();
	await expect(hits.or(page.getByText("remembers nothing of it")).first()).not.toContainText("Ann drinks");
	expect(await left()).toEqual(["Bob prefers coffee", "The printer is in room 12"]);
	await page.getByRole("button", { name: "Forget all that match" }).click();
	const all = page.getByRole("dialog");
	await expect(all).toContainText("2 memories would be erased");
	await all.getByRole("button", { name: "Forget 2 memories" }).click();
	await expect(all).toContainText("2 memories forgotten");
	await expect(all).toContainText(/[0-9a-f]{64}/);
	await accessible(page);
	await page.screenshot({ path: `screenshots/receipt-${info.project.name}.png` });
	expect(await left()).toEqual([]);
});
