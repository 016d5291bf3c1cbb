/** Starts the meshes of a run, one open and one that demands credentials; what this answers ends them. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Machine, startMachine } from "./machine";
import { type Mesh, startMesh } from "./mesh";
import { startOutside } from "./outside";
import { SCRIPTS } from "./scripts";
import { seed } from "./seed";

/** What is on a node that died is claimed by another one after this time, in milliseconds: tests are short. */
const LEASE_MS = "3000";

export default async function setup(): Promise<() => Promise<void>> {
	const outside = await startOutside();
	const shared = { MESH_INFERENCE__MOCK_SCRIPTS: JSON.stringify(SCRIPTS), MESH_EXECUTION__NODE_LEASE_MS: LEASE_MS };
	const started = await Promise.allSettled([startMesh(shared), startMesh({ ...shared, MESH_REQUIRE_CREDENTIALS: "1" })]);
	const meshes = started.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
	const machines: Machine[] = [];
	const stop = async () => {
		await Promise.all(machines.map((machine) => machine.kill()));
		await Promise.all([...meshes.map((mesh) => mesh.stop()), outside.stop()]);
	};
	try {
		const failed = started.find((one) => one.status === "rejected");
		if (failed) throw failed.reason;
		const [open, closed] = meshes as [Mesh, Mesh];
		process.env.BROWSER_OUTSIDE_URL = outside.url;
		Object.assign(process.env, await seed(open));
		const folder = join(open.home, "machines");
		mkdirSync(folder);
		machines.push(await startMachine(open.url, folder, "kitchen", "kitchen"));
		Object.assign(process.env, { BROWSER_MESH_URL: open.url, BROWSER_MESH_HOME: open.home });
		Object.assign(process.env, { BROWSER_CLOSED_URL: closed.url, BROWSER_CLOSED_HOME: closed.home });
	} catch (error) {
		await stop();
		throw error;
	}
	return stop;
}
