/** `mesh node` processes of a test, killed at its end, and what the mesh says of them. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { get } from "./agents";
import { type Machine, startMachine } from "./machine";
import { expect, test as base } from "./test";

export interface NodeView {
	readonly node_id: string;
	readonly status: string;
	readonly drained: boolean;
	readonly replicas: readonly { readonly agent: string; readonly state: string }[];
}

interface Fixtures {
	/** Starts a node of that name whose label `of` is the given one, and waits until the mesh sees it. */
	readonly node: (name: string, of: string) => Promise<Machine>;
}

export const test = base.extend<Fixtures>({
	node: async ({ meshUrl }, use) => {
		const folder = mkdtempSync(join(tmpdir(), "mesh-browser-node-"));
		const running: Machine[] = [];
		try {
			await use(async (name, of) => {
				const machine = await startMachine(meshUrl, folder, name, of);
				running.push(machine);
				return machine;
			});
		} finally {
			await Promise.all(running.map((machine) => machine.kill()));
			rmSync(folder, { recursive: true, force: true });
		}
	},
});

export function nodeOf(url: string, name: string): Promise<NodeView> {
	return get<NodeView>(url, `/api/v1/nodes/${name}`);
}

/** A script agent with one replica, on nodes of that label only. */
export function placedSpec(of: string): Record<string, unknown> {
	return {
		runtime: "script",
		script: { command: ["sh", "-c", "echo '{}'"], effect: "idempotent", timeout: "60s" },
		placement: { replicas: 1, node_selector: { of } },
	};
}

/** The node that has the agent's ready replica, once one has; never `not`. */
export async function holderOf(url: string, agent: string, not?: string): Promise<string> {
	let found = "";
	const look = async () => {
		const brain = await get<{ replicas: { agent: string; node: string; state: string }[] }>(url, "/api/v1/brain/state");
		found = brain.replicas.find((one) => one.agent === agent && one.state === "ready" && one.node !== not)?.node ?? "";
		return found;
	};
	await expect.poll(look, { timeout: 40_000 }).not.toBe("");
	return found;
}

/** Who claimed it, in order. */
export async function holders(url: string, id: string): Promise<readonly string[]> {
	const { items } = await get<{ items: { what: string; holder?: string }[] }>(url, `/api/v1/invocations/${id}/history?limit=500`);
	return items.flatMap((moment) => (moment.what === "claimed" && moment.holder ? [moment.holder] : []));
}
