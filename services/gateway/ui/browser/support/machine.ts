/** A `mesh node` process that joins a mesh with a token, and is ended by its id. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { cleanEnvironment, program } from "./mesh";
import { post } from "./seed";

const ONLINE_MS = 60_000;
const LOOK_MS = 200;

export interface Machine {
	readonly id: string;
	/** As a power failure would. */
	kill(): Promise<void>;
}

/** Started in a folder of the run under that id, with the label `of`; answers once the mesh sees it. */
export async function startMachine(url: string, folder: string, id: string, of: string): Promise<Machine> {
	const { secret } = await post<{ secret: string }>(url, "/api/v1/join-tokens", {});
	const home = join(folder, id);
	mkdirSync(home);
	const path = join(folder, `${id}.log`);
	const log = openSync(path, "w");
	const env = {
		...cleanEnvironment(),
		MESH_HOME: home,
		MESH_URL: url,
		MESH_NODE_TOKEN: secret,
		AGENT_NODE_ID: id,
		AGENT_NODE_MODE: "private",
		// So that tests are short.
		AGENT_NODE_HEARTBEAT_SECONDS: "1",
		MESH_NODE__LOCAL: "false",
	};
	const child = spawn(program(), ["node", "--slots", "4", "--label", `of=${of}`], { env, stdio: ["ignore", log, log] });
	closeSync(log);
	const fall = () => child.kill("SIGKILL");
	process.once("exit", fall);
	child.once("exit", () => process.off("exit", fall));
	const kill = () => ended(child);
	const end = Date.now() + ONLINE_MS;
	while (Date.now() < end && child.exitCode === null) {
		const seen = await fetch(`${url}/api/v1/nodes/${id}`);
		if (seen.ok && ((await seen.json()) as { status: string }).status === "online") return { id, kill };
		await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
	}
	await kill();
	throw new Error(`the node ${id} did not come online:\n${readFileSync(path, "utf8").slice(-2_000)}`);
}

async function ended(child: ChildProcess): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const gone = new Promise((resolve) => child.once("exit", resolve));
	child.kill("SIGKILL");
	await gone;
}
