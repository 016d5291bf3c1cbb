/** States in shades of grey: shape and word tell them apart where colours do not. */
import { createHash } from "node:crypto";
import type { Locator } from "@playwright/test";
import { BEGIN } from "./support/recording";
import { expect, settled, test } from "./support/test";

const STATES = ["queued", "running", "waiting", "completed", "failed", "cancelled", "dead"];

const item = (state: string, index: number) => ({
	id: `inv_01KAGB0000000000000000000${index}`,
	tenant: "default",
	agent: `agent-${state}`,
	version: 1,
	state,
	entrypoint: "invoke",
	priority: 5,
	payload: { text: "one" },
	attempt: 1,
	created_at: new Date(BEGIN - index * 1_000).toISOString(),
	cursor: 0,
	usage: { cost_usd: 0 },
	waits_for: [],
	paused: false,
});

const hash = (picture: Buffer) => createHash("sha256").update(picture).digest("hex");

/** Each of them as a picture in one shade of grey, so that only its shape is left. */
async function shapes(marks: readonly Locator[]): Promise<string[]> {
	const pictures: string[] = [];
	for (const mark of marks) {
		const svg = mark.locator("svg").first();
		await svg.evaluate((element) => {
			element.style.color = "#777";
		});
		pictures.push(hash(await svg.screenshot()));
	}
	return pictures;
}

test("4: in shades of grey each state has a shape and a word of its own", async ({ page }) => {
	await page.route(/\/api\/v1\/invocations\?/, (route) => route.fulfill({ json: { items: STATES.map(item), next: null } }));
	await page.goto("/t/default/invocations");
	await settled(page);
	await page.evaluate(() => document.documentElement.style.setProperty("filter", "grayscale(1)"));
	const rows = page.getByRole("table", { name: "Invocations" }).getByRole("row");
	const marks = STATES.map((state) => rows.filter({ hasText: `agent-${state}@` }).getByRole("cell").first());
	for (const [index, mark] of marks.entries()) await expect(mark).toHaveText(STATES[index] ?? "");
	// They stand at places of their own, so each is drawn at the same one.
	await page.mouse.move(0, 0);
	expect(new Set(await shapes(marks)).size).toBe(STATES.length);
});
