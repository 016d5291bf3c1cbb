/**
 * `test` of every browser test: the page of the run's mesh, watched. A console error, a failed request or an answer
 * of 400 and more fails the test unless it was allowed before.
 */
import { test as base, expect, type Page, type Request } from "@playwright/test";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

export { expect };

export interface Watch {
	/** What is wanted to go wrong, such as `/api/v1/overview`; matched against URL and text. */
	allow(what: string | RegExp): void;
	/** Requests to the API since the last `forget`. */
	readonly requests: readonly string[];
	forget(): void;
}

/** Another program changed the network of this machine, such as one that starts containers: nothing that is tested. */
const OF_THE_MACHINE = "net::ERR_NETWORK_CHANGED";

interface Fixtures {
	readonly watch: Watch;
	readonly meshUrl: string;
}

export const test = base.extend<Fixtures>({
	meshUrl: async ({}, use) => {
		const url = process.env.BROWSER_MESH_URL;
		if (!url) throw new Error("the run's setup started no mesh");
		await use(url);
	},
	baseURL: async ({ meshUrl }, use) => use(meshUrl),
	watch: [
		async ({ page }, use) => {
			const wrong: string[] = [];
			const allowed: (string | RegExp)[] = [];
			const requests: string[] = [];
			const tell = (what: string) => {
				if (!what.includes(OF_THE_MACHINE)) wrong.push(what);
			};
			page.on("console", (message) => {
				if (message.type() === "error") tell(`console: ${message.text()} ${message.location().url}`);
			});
			page.on("pageerror", (error) => tell(`page: ${error.message}`));
			page.on("request", (request) => {
				if (isApi(request)) requests.push(`${request.method()} ${new URL(request.url()).pathname}`);
			});
			page.on("requestfailed", (request) => {
				// What a page no longer needs it lets go.
				if (request.failure()?.errorText !== "net::ERR_ABORTED") tell(`request: ${request.url()} ${request.failure()?.errorText}`);
			});
			page.on("response", (response) => {
				if (response.status() >= 400) tell(`answer: ${response.status()} ${response.url()}`);
			});
			await use({
				allow: (what) => void allowed.push(what),
				requests,
				forget: () => void requests.splice(0),
			});
			const left = wrong.filter((what) => !allowed.some((one) => (typeof one === "string" ? what.includes(one) : one.test(what))));
			expect(left).toEqual([]);
		},
		{ auto: true },
	],
});

function isApi(request: Request): boolean {
	return /\/(api|v1|internal)\//.test(new URL(request.url()).pathname);
}

/** The page is there, connected, and nothing of it is still on its way. */
export async function settled(page: Page): Promise<void> {
	await expect(page.getByRole("banner").getByRole("status").first()).toHaveText("live");
	await expect(page.locator("main [aria-busy=true]")).toHaveCount(0);
	await page.waitForLoadState("networkidle");
}

export async function noSidewaysScroll(page: Page): Promise<void> {
	const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
	expect(width, "the page scrolls sideways").toBeLessThanOrEqual(room ?? 0);
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

interface Violation {
	readonly id: string;
	readonly impact: string;
	readonly nodes: readonly { readonly target: readonly string[]; readonly failureSummary?: string }[];
}

/** axe finds nothing serious or critical. */
export async function accessible(page: Page): Promise<void> {
	// Evaluated by the debugger's protocol, which the page's policy does not concern.
	await page.evaluate(axeSource);
	const found = await page.evaluate(async () => {
		const axe = (window as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } }).axe;
		return (await axe.run()).violations;
	});
	const serious = found.filter((one) => one.impact === "serious" || one.impact === "critical");
	const said = serious.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 5).join(" | ")}`);
	expect(said).toEqual([]);
}
