/** A mesh of its own for a run: the `mesh` program with a home and ports of its own, ended with the run. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
/** The first start of a debug build on a busy machine makes its database. */
const START_MS = 120_000;
const STOP_MS = 20_000;
const LOOK_MS = 200;

export function program(): string {
	const path = process.env.MESH_BINARY ?? join(here, "../../../../../target/debug/mesh");
	if (!existsSync(path)) throw new Error(`${path} is not built: cargo build --workspace, or name it in MESH_BINARY`);
	return path;
}

/** The environment without what it says to a mesh, which refuses variables that it does not know. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
	return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("MESH_")));
}

export interface Mesh {
	readonly url: string;
	readonly home: string;
	/** Runs the command line against it; answers its stdout. */
	run(...words: string[]): Promise<string>;
	stop(): Promise<void>;
}

/** Runs the `mesh` of a home; rejects with what it said on stderr. */
export function cli(home: string, words: readonly string[], stdin?: string): Promise<string> {
	return new Promise((resolve, reject) => {
		const env = { ...cleanEnvironment(), MESH_HOME: home };
		const child = execFile(program(), words, { env, timeout: 60_000 }, (error, stdout, stderr) => {
			if (error) reject(new Error(`mesh ${words.join(" ")}: ${stderr || error.message}`));
			else resolve(stdout);
		});
		// A program that has ended already takes no more; its exit says the rest.
		child.stdin?.on("error", () => undefined);
		child.stdin?.end(stdin ?? "");
	});
}

export async function startMesh(more: Record<string, string> = {}): Promise<Mesh> {
	const home = mkdtempSync(join(tmpdir(), "mesh-browser-"));
	const log = openSync(join(home, "browser.log"), "w");
	const ports = { MESH_HTTP_PORT: "0", MESH_NATS_PORT: "0", MESH_POSTGRES_PORT: "0" };
	const env = { ...cleanEnvironment(), ...ports, MESH_HOME: home, ...more };
	const child = spawn(program(), ["up"], { env, stdio: ["ignore", log, log] });
	closeSync(log);
	// Also when the run itself falls.
	const fall = () => child.kill("SIGTERM");
	process.once("exit", fall);
	child.once("exit", () => process.off("exit", fall));
	try {
		const url = await isUp(child, home);
		return { url, home, run: (...words) => cli(home, words), stop: () => stop(child, home) };
	} catch (error) {
		await stop(child, home);
		throw error;
	}
}

async function isUp(child: ChildProcess, home: string): Promise<string> {
	const end = Date.now() + START_MS;
	while (Date.now() < end) {
		if (child.exitCode !== null) break;
		const said = await cli(home, ["status", "--json"]).catch(() => "");
		const status = said.startsWith("{") ? (JSON.parse(said) as { http?: string; healthy?: boolean }) : {};
		if (status.healthy && status.http) return status.http;
		await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
	}
	const log = readFileSync(join(home, "browser.log"), "utf8").slice(-4_000);
	throw new Error(`the mesh did not come up:\n${log}`);
}

async function stop(child: ChildProcess, home: string): Promise<void> {
	if (child.exitCode === null) {
		const ended = new Promise((resolve) => child.once("exit", resolve));
		child.kill("SIGTERM");
		const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
		await ended;
		clearTimeout(late);
	}
	rmSync(home, { recursive: true, force: true });
}
