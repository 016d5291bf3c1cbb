/** Reads the page of a step's body: a large one is decoded and cut by a worker, and comes as it is to be shown. */
import { askBlob } from "../../api/client";
import { Beside } from "../../parts/beside";
import { type Body, bodyIn } from "./body";

/** Bytes above which a worker does it: some milliseconds of work. */
const LARGE = 200_000;

const worker = new Beside<Blob, Body | null>(
	() => new Worker(new URL("./body-worker.ts", import.meta.url), { type: "module" }),
);

export async function readBody(path: string, signal: AbortSignal): Promise<Body | null> {
	const page = await askBlob(path, { signal });
	return page.size > LARGE ? worker.ask(page) : bodyIn(await page.text());
}
