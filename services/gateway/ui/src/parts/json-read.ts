/** Indexes JSON for `JsonTree`: small texts at once, large ones in a worker, so that no frame waits. */
import { Beside } from "./beside";
import { indexJson } from "./json-index";
import type { Json } from "./json-rows";

/** Characters above which a worker does it. */
const LARGE = 50_000;

const worker = new Beside<string, Int32Array>(
	() => new Worker(new URL("./json-worker.ts", import.meta.url), { type: "module" }),
);

export function isLarge(text: string): boolean {
	return text.length > LARGE && typeof Worker !== "undefined";
}

/** Throws `Malformed`. */
export function readNow(text: string): Json {
	return { text, cells: indexJson(text) };
}

export async function readBeside(text: string): Promise<Json> {
	return { text, cells: await worker.ask(text) };
}
