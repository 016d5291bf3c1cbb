/** Agents as these tests declare them, and their invocations by the API. */
import { expect } from "@playwright/test";
import { outsideUrl } from "./outside";
import { post } from "./seed";

type Spec = Record<string, unknown>;

/** Reads and writes no memories: only what a test is about. Without a script it answers by keywords. */
export function llm(script: string, tools: readonly (Spec | string)[] = [], more: Spec = {}): Spec {
	const model = { name: script === "" ? "mock" : `mock:script:${script}` };
	return { model, tools, memory: { query_top_k: 0, writeback: false }, ...more };
}

/** A tool at a place of its own name outside. */
export function tool(name: string, place: string, effect: string, more: Spec = {}): Spec {
	return { name, kind: "http", url: outsideUrl(`tool/${place}`), effect, ...more };
}

export interface Invocation {
	readonly id: string;
	readonly state: string;
	readonly output: { readonly text?: string } | null;
	readonly forked_from?: { readonly invocation: string; readonly step: number } | null;
}

export interface Step {
	readonly number: number;
	readonly kind: string;
	readonly name: string;
	readonly output: unknown;
}

export { callsOf } from "./outside";

export async function get<T>(url: string, path: string): Promise<T> {
	const response = await fetch(`${url}${path}`);
	if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${await response.text()}`);
	return (await response.json()) as T;
}

/** Starts one and does not wait for it; its id. */
export async function start(url: string, agent: string, text: string, more: object = {}): Promise<string> {
	const body = { payload: { text }, ...more };
	const { id } = await post<{ id: string }>(url, `/api/v1/agents/${agent}/invocations`, body);
	return id;
}

/** The invocation, once it is in that state. */
export async function until(url: string, id: string, state: string): Promise<Invocation> {
	const read = () => get<Invocation>(url, `/api/v1/invocations/${id}`);
	await expect.poll(async () => (await read()).state, { timeout: 30_000 }).toBe(state);
	return read();
}

/** Invokes it with a text, to its end. */
export async function ask(url: string, agent: string, text: string): Promise<Invocation> {
	return until(url, await start(url, agent, text), "completed");
}

export async function stepsOf(url: string, id: string): Promise<readonly Step[]> {
	return (await get<{ items: Step[] }>(url, `/api/v1/invocations/${id}/steps?limit=500`)).items;
}
