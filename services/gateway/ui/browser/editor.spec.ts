/** The editor: one document in form and YAML, from a new agent to a published one and back to an earlier version. */
import { get, llm } from "./support/agents";
import { declare } from "./support/seed";
import { accessible, expect, noSidewaysScroll, settled, test } from "./support/test";

interface View {
	readonly spec: { readonly instructions?: string };
	readonly status: { readonly published: { readonly version: number } | null };
}

test("an agent is created, published, tried and watched to its answer", async ({ page, meshUrl }, info) => {
	const name = `made-${info.project.name}`;
	await page.goto("/t/default/agents");
	await settled(page);
	await page.getByRole("button", { name: /^New agent/ }).click();
	const dialog = page.getByRole("dialog", { name: "New agent" });
	await dialog.getByRole("textbox", { name: /^Name/ }).fill("ada");
	await dialog.getByRole("combobox", { name: "Model" }).selectOption("mock:script:words");
	await dialog.getByRole("textbox", { name: "Instructions" }).fill("You speak slowly.");
	await accessible(page);
	await page.screenshot({ path: `screenshots/new-agent-${info.project.name}.png` });
	await dialog.getByRole("textbox", { name: /^Name/ }).fill(name);
	await dialog.getByRole("button", { name: "Create the draft" }).click();
	await expect(page).toHaveURL(new RegExp(`/agents/${name}`));
	await expect(page.locator("h1 + span")).toHaveText("never published");
	await page.getByRole("button", { name: "Publish" }).click();
	const publish = page.getByRole("dialog", { name: "Publish" });
	await expect(publish).toContainText("Publish v1: the first version");
	await accessible(page);
	await publish.getByRole("button", { name: `Publish ${name}` }).click();
	await expect(page.locator("h1 + span")).toHaveText("v1 live");
	expect((await get<View>(meshUrl, `/api/v1/agents/${name}`)).status.published?.version).toBe(1);
	await page.getByRole("link", { name: "Try it" }).click();
	await page.getByRole("textbox", { name: `Message to ${name}` }).fill("Talk to me");
	await page.getByRole("button", { name: "Send" }).click();
	const answer = page.getByRole("article", { name: `Answer of ${name}` });
	await expect(answer).toContainText("w0 w1");
	await expect(answer).toContainText("w38 w39", { timeout: 30_000 });
	await expect(answer.getByText("What it did")).toBeVisible();
	await answer.getByRole("link", { name: /^Invocation / }).click();
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "completed" })).toBeVisible();
	await expect(page.getByText("mock: no model answered")).toBeVisible();
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/invocation-${info.project.name}.png` });
});

test("22: a bad field is marked in form and YAML and keeps publish off; comments survive the form", async ({ page, meshUrl }, info) => {
	const name = `bad-${info.project.name}`;
	await declare({ url: meshUrl }, name, llm("", [], { instructions: "You answer." }));
	await page.goto(`/t/default/agents/${name}`);
	await settled(page);
	const isNarrow = info.project.name === "narrow";
	const show = async (side: "Form" | "YAML") => {
		if (isNarrow) await page.getByRole("radiogroup", { name: "Side of the editor" }).getByText(side, { exact: true }).click();
	};
	const form = page.getByRole("region", { name: "Form" });
	const yaml = page.getByRole("textbox", { name: `YAML of ${name}` });
	await show("YAML");
	await yaml.click();
	await page.keyboard.press("Control+Home");
	await page.keyboard.insertText("# as Ann asked for\n");
	await expect(yaml).toContainText("# as Ann asked for");
	await show("Form");
	const temperature = form.getByRole("textbox", { name: "Temperature" });
	await temperature.fill("9");
	await expect(temperature).toHaveAttribute("aria-invalid", "true");
	const alert = page.getByRole("alert");
	await expect(alert).toContainText("publish is off");
	await expect(alert.getByRole("button", { name: "spec.model.temperature" })).toBeVisible();
	await expect(page.getByRole("button", { name: "Publish" })).toHaveAttribute("aria-disabled", "true");
	await expect(page.getByRole("button", { name: "Save draft" })).toHaveAttribute("aria-disabled", "true");
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/editor-${info.project.name}.png` });
	await show("YAML");
	await expect(yaml).toContainText("# as Ann asked for");
	await expect(yaml).toContainText("temperature: 9");
	await expect(yaml.locator(".cm-lintRange-error")).toBeVisible();
	// In the YAML it is made good, and the form follows.
	await yaml.getByText("temperature").click();
	await page.keyboard.press("End");
	await page.keyboard.press("Backspace");
	await page.keyboard.insertText("1");
	await expect(alert).toHaveCount(0);
	await show("Form");
	await expect(temperature).toHaveValue("1");
	await expect(page.getByRole("button", { name: "Publish" })).not.toHaveAttribute("aria-disabled", "true");
	await show("YAML");
	await expect(yaml).toContainText("# as Ann asked for");
});

test("what somebody else saved is shown beside mine, and nothing is lost", async ({ page, meshUrl, watch }, info) => {
	watch.allow("412");
	const name = `both-${info.project.name}`;
	await declare({ url: meshUrl }, name, llm("", [], { instructions: "You answer." }));
	await page.goto(`/t/default/agents/${name}`);
	await settled(page);
	await page.getByRole("region", { name: "Form" }).getByRole("textbox", { name: "Instructions" }).fill("Mine.");
	const theirs = { metadata: { name }, spec: llm("", [], { instructions: "Theirs." }) };
	const put = await fetch(`${meshUrl}/api/v1/agents/${name}`, {
		method: "PUT",
		headers: { "content-type": "application/json" },
		body: JSON.stringify(theirs),
	});
	expect(put.status).toBe(200);
	await expect(page.getByText("Somebody else saved")).toBeVisible();
	await page.getByRole("button", { name: "Save draft" }).click();
	const dialog = page.getByRole("dialog", { name: `${name} was saved by somebody else` });
	await expect(dialog).toContainText("Theirs.");
	await expect(dialog).toContainText("Mine.");
	await accessible(page);
	await dialog.getByRole("button", { name: "Save mine over theirs" }).click();
	await expect(dialog).toBeHidden();
	expect((await get<View>(meshUrl, `/api/v1/agents/${name}`)).spec.instructions).toBe("Mine.");
});

test("a version is rolled back to after its effect was said", async ({ page, meshUrl }, info) => {
	const name = `rolled-${info.project.name}`;
	await declare({ url: meshUrl }, name, llm("", [], { instructions: "First." }));
	await fetch(`${meshUrl}/api/v1/agents/${name}`, {
		method: "PUT",
		headers: { "content-type": "application/json" },
		body: JSON.stringify({ metadata: { name }, spec: llm("", [], { instructions: "Second." }) }),
	});
	await fetch(`${meshUrl}/api/v1/agents/${name}/publish`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
	await page.goto(`/t/default/agents/${name}?tab=versions`);
	await expect(page.getByRole("table", { name: `Versions of ${name}, newest first` })).toContainText("v2");
	await settled(page);
	await page.getByRole("button", { name: "Roll back to v1" }).click();
	const dialog = page.getByRole("dialog");
	await expect(dialog).toContainText("take v1 instead of v2");
	await accessible(page);
	await dialog.getByRole("button", { name: "Roll back to v1" }).click();
	await expect(page.locator("h1 + span")).toHaveText("v1 live");
	await expect(page.getByRole("row", { name: /^v1/ })).toContainText("live");
	expect((await get<View>(meshUrl, `/api/v1/agents/${name}`)).status.published?.version).toBe(1);
});
