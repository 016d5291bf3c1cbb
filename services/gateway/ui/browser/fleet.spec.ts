/** Nodes that die and nodes that are drained: what the pages say of it, and that work goes on elsewhere. */
import { ask, get, start, until } from "./support/agents";
import { holderOf, holders, nodeOf, placedSpec, test } from "./support/nodes";
import { declare } from "./support/seed";
import { accessible, expect, noSidewaysScroll, settled } from "./support/test";

interface Brain {
	readonly replicas: readonly { readonly replica: string; readonly agent: string; readonly node: string }[];
}

test("20: a killed node is silent, its replica moves with a reason, and the other node answers", async ({ page, meshUrl, node }, info) => {
	test.setTimeout(150_000);
	const of = `fail-${info.project.name}`;
	const nodes = await Promise.all([node(`${of}-a`, of), node(`${of}-b`, of)]);
	await declare({ url: meshUrl }, of, placedSpec(of));
	const victim = await holderOf(meshUrl, of);
	const before = await ask(meshUrl, of, "first");
	expect((await holders(meshUrl, before.id)).at(-1)).toBe(victim);
	await page.goto(`/t/default/nodes?q=${of}-`);
	const row = page.getByRole("table", { name: "Nodes" }).getByRole("row").filter({ hasText: victim });
	await expect(row).toContainText("online");
	await expect(row).toContainText("1 replica");
	await settled(page);
	await page.screenshot({ path: `screenshots/nodes-online-${info.project.name}.png` });
	const killed = Date.now();
	await nodes.find(({ id }) => id === victim)?.kill();
	await expect(row).toContainText("silent", { timeout: 40_000 });
	info.annotations.push({ type: "silent after", description: `${Date.now() - killed} ms` });
	await expect(row).toContainText("1 moved", { timeout: 40_000 });
	info.annotations.push({ type: "moved after", description: `${Date.now() - killed} ms` });
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/nodes-silent-${info.project.name}.png` });
	const other = await holderOf(meshUrl, of, victim);
	const after = await ask(meshUrl, of, "second");
	expect((await holders(meshUrl, after.id)).at(-1)).toBe(other);
	// The sentence names agent, nodes and the cause with its limit.
	await page.goto(`/t/default/reconciler?agent=${of}`);
	const pass = page.getByRole("list", { name: "Passes, newest first" }).getByRole("listitem").filter({ hasText: `in place of ${victim}` });
	await expect(pass.first()).toContainText(
		new RegExp(`place ${of} v1 on ${other} in place of ${victim} because ${victim} has been silent for \\d+ s \\(limit 3 s\\) applied`),
	);
	await settled(page);
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/reconciler-moved-${info.project.name}.png` });
	await page.goto(`/t/default/nodes/${victim}`);
	await expect(page.getByRole("region", { name: "What was done with it" })).toContainText(`on ${other} in place of ${victim}`);
	await settled(page);
	await noSidewaysScroll(page);
	await accessible(page);
	await page.screenshot({ path: `screenshots/node-${info.project.name}.png` });
});

test("an invocation that ran on a killed node goes on elsewhere, and the debugger says so @wide", async ({ page, meshUrl, node }, info) => {
	test.setTimeout(150_000);
	const of = `takeover-${info.project.name}`;
	const nodes = await Promise.all([node(`${of}-a`, of), node(`${of}-b`, of)]);
	const script = { command: ["sh", "-c", "sleep 6; echo '{}'"], effect: "idempotent", timeout: "60s" };
	await declare({ url: meshUrl }, of, { ...placedSpec(of), script });
	const victim = await holderOf(meshUrl, of);
	const id = await start(meshUrl, of, "long");
	await expect.poll(async () => (await holders(meshUrl, id)).at(-1), { timeout: 30_000 }).toBe(victim);
	await page.goto(`/t/default/invocations/${id}`);
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "running" })).toBeVisible();
	await settled(page);
	await nodes.find(({ id: name }) => name === victim)?.kill();
	const note = page.getByRole("tree", { name: "Steps" }).getByRole("treeitem").filter({ hasText: `took over from ${victim}` });
	await expect(note).toBeVisible({ timeout: 60_000 });
	await until(meshUrl, id, "completed");
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "completed" })).toBeVisible();
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/takeover-${info.project.name}.png` });
});

test("21: dry runs say what would be done and change nothing", async ({ page, meshUrl, node, watch }, info) => {
	test.setTimeout(120_000);
	const of = `dry-${info.project.name}`;
	const [first, second] = await Promise.all([node(`${of}-a`, of), node(`${of}-b`, of)]);
	await declare({ url: meshUrl }, of, placedSpec(of));
	const holder = await holderOf(meshUrl, of);
	const other = holder === first.id ? second.id : first.id;
	const placed = async () => {
		const brain = await get<Brain>(meshUrl, "/api/v1/brain/state");
		const nodes = await Promise.all([nodeOf(meshUrl, first.id), nodeOf(meshUrl, second.id)]);
		return { replicas: brain.replicas.filter(({ agent }) => agent === of), drained: nodes.map(({ drained }) => drained) };
	};
	const before = await placed();
	expect(before.drained).toEqual([false, false]);
	await page.goto(`/t/default/nodes/${holder}`);
	await settled(page);
	watch.forget();
	await page.getByRole("button", { name: /^Drain/ }).click();
	const drain = page.getByRole("dialog", { name: "Drain" });
	await expect(drain).toContainText("1 replica would move");
	await expect(drain).toContainText(`place ${of} v1 on ${other} in place of ${holder} because ${holder} is drained`);
	await accessible(page);
	await noSidewaysScroll(page);
	await page.screenshot({ path: `screenshots/drain-${info.project.name}.png` });
	await drain.getByRole("button", { name: "Not now" }).click();
	await page.goto("/t/default/reconciler");
	await settled(page);
	await page.getByRole("button", { name: /^Dry run/ }).click();
	const plan = page.getByRole("dialog", { name: "The next pass, not applied" });
	await expect(plan).toContainText("nothing was changed");
	await expect(plan).toContainText("Seen:");
	await accessible(page);
	await page.screenshot({ path: `screenshots/dry-run-${info.project.name}.png` });
	const writes = watch.requests.filter((one) => !one.startsWith("GET ") && !one.includes("/auth/"));
	expect(writes).toEqual(["POST /api/v1/plan", "POST /api/v1/plan"]);
	expect(await placed()).toEqual(before);
});

test("23: by keyboard alone: create, publish, invoke, approve, fork, drain @keyboard", async ({ page, meshUrl, node }) => {
	test.setTimeout(150_000);
	const { pressOn, tabTo } = await import("./support/keyboard");
	const { outsideUrl } = await import("./support/outside");
	const machine = await node("keyboard-a", "keyboard");
	const name = "keyboard";
	await page.goto("/t/default");
	await settled(page);
	// Create.
	await page.keyboard.press("g");
	await page.keyboard.press("a");
	await expect(page.getByRole("heading", { name: "Agents", level: 1 })).toBeVisible();
	await page.keyboard.press("c");
	const dialog = page.getByRole("dialog", { name: "New agent" });
	await expect(dialog.getByRole("textbox", { name: /^Name/ })).toBeFocused();
	await page.keyboard.type(name);
	await tabTo(page, dialog.getByRole("combobox", { name: "Model" }));
	await page.keyboard.type("mock:script:pay");
	await expect(dialog.getByRole("combobox", { name: "Model" })).toHaveValue(/^mock:script:pay/);
	await pressOn(page, dialog.getByRole("button", { name: "Create the draft" }));
	await expect(page).toHaveURL(new RegExp(`/agents/${name}`));
	// Give it a tool in the YAML, and publish.
	const yaml = page.getByRole("textbox", { name: `YAML of ${name}` });
	await tabTo(page, yaml);
	await page.keyboard.press("Control+a");
	await page.keyboard.press("Delete");
	const tool = { name: "pay", kind: "http", url: outsideUrl(`tool/${name}`), effect: "idempotent", approval: "always" };
	const spec = { model: { name: "mock:script:pay" }, tools: [tool], memory: { query_top_k: 0, writeback: false } };
	await page.keyboard.insertText(JSON.stringify({ apiVersion: "mesh/v1", kind: "Agent", metadata: { name }, spec }));
	await tabTo(page, page.getByRole("button", { name: "Publish" }), "Shift+Tab");
	await page.keyboard.press("Enter");
	const publish = page.getByRole("dialog", { name: "Publish" }).getByRole("button", { name: `Publish ${name}` });
	await expect(publish).toBeEnabled();
	await pressOn(page, publish);
	await expect(page.locator("h1 + span")).toHaveText("v1 live");
	// Invoke.
	await pressOn(page, page.getByRole("link", { name: "Try it" }));
	await tabTo(page, page.getByRole("textbox", { name: `Message to ${name}` }));
	await page.keyboard.type("Pay invoice 88");
	await page.keyboard.press("Enter");
	await expect(page.getByRole("article", { name: `Answer of ${name}` })).toContainText("asks to call pay");
	// Approve.
	await page.keyboard.press("Escape");
	await tabTo(page, page.getByRole("link", { name: "Attention" }).first(), "Shift+Tab");
	await page.keyboard.press("Enter");
	const cards = page.getByRole("region", { name: "Decisions" }).getByRole("listitem");
	const card = cards.filter({ hasText: name });
	await expect(card).toBeVisible();
	const count = await cards.count();
	for (let row = 0; row < count && (await card.getAttribute("aria-current")) !== "true"; row++) await page.keyboard.press("j");
	await expect(card).toHaveAttribute("aria-current", "true");
	const link = (await card.getByRole("link").first().getAttribute("href")) ?? "";
	const id = /inv_\w+/.exec(link)?.[0] ?? "";
	await page.keyboard.press("a");
	await expect(card).toHaveCount(0);
	await until(meshUrl, id, "completed");
	// Fork: the palette takes a pasted id.
	await page.keyboard.press("Control+k");
	await expect(page.getByRole("combobox")).toBeFocused();
	await page.keyboard.insertText(id);
	await expect(page.getByRole("option", { name: `invocation ${id}` })).toBeVisible();
	await page.keyboard.press("Enter");
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "completed" })).toBeVisible();
	await expect(page.getByRole("button", { name: /^Fork at/ })).toBeEnabled();
	await page.keyboard.press("f");
	const go = page.getByRole("dialog").getByRole("button", { name: /^Fork: / });
	await expect(go).toBeEnabled();
	await pressOn(page, go);
	await expect(page).not.toHaveURL(new RegExp(id));
	await expect(page.getByRole("main").getByRole("status").filter({ hasText: "completed" })).toBeVisible({ timeout: 30_000 });
	// Drain.
	await page.keyboard.press("g");
	await page.keyboard.press("n");
	await tabTo(page, page.getByRole("searchbox"));
	await page.keyboard.type(machine.id);
	const row = page.getByRole("table", { name: "Nodes" }).getByRole("row").filter({ hasText: machine.id });
	await pressOn(page, row.getByRole("link").first());
	await expect(page).toHaveURL(new RegExp(`/nodes/${machine.id}$`));
	// The list has a button of that name too and stays until the page of the node has come; the key is that page's alone.
	await expect(page.getByRole("heading", { name: "What it runs" })).toBeVisible();
	await expect(page.getByRole("button", { name: /^Drain/ })).toBeEnabled();
	await page.keyboard.press("d");
	const drain = page.getByRole("dialog", { name: "Drain" }).getByRole("button", { name: /^Drain / });
	await expect(drain).toBeEnabled();
	await pressOn(page, drain);
	await expect.poll(async () => (await nodeOf(meshUrl, machine.id)).drained).toBe(true);
	await expect(page.getByText(/drained|draining/).first()).toBeVisible();
});
