/**
 * The API, typed by its OpenAPI document: `ask(client.GET("/api/v1/agents", { signal }))`. Tenant, token and the
 * key that makes a write happen once are put on here. Each failure is a `Failure` with what to do next.
 */
import createClient from "openapi-fetch";
import { Failure, type Problem } from "./problem";
import type { components, paths } from "./schema";
import { Tokens } from "./token";

export type Schema = components["schemas"];

/** The tenant of all requests of this tab: the one in the path of the page. */
let tenant = "default";

export function setTenant(name: string): void {
	tenant = name;
}

export function currentTenant(): string {
	return tenant;
}

export const tokens = new Tokens((input, init) => fetch(input, init), Date.now);

/** Set by the session once it knows how the mesh is signed in to; requests wait for it. */
type Mode = "development" | "credentials";
let tellMode: (told: Mode) => void = () => {};
let mode = new Promise<Mode>((tell) => {
	tellMode = tell;
});

export function setMode(told: Promise<Mode>): void {
	// Requests made before anybody asked wait for the first answer that comes.
	told.then(tellMode, () => undefined);
	mode = told;
}

/**
 * Reads wait for this: that what they read is pushed, so that no event falls between. Asked after all effects of the
 * page that reads, as those subscribe.
 */
let gate: () => Promise<unknown> = () => Promise.resolve();

export function setReadGate(open: () => Promise<unknown>): void {
	gate = open;
}

const READS = new Set(["GET", "HEAD"]);
/** The browser keeps no answers: its copy of an agent would hold as long as the draft is the same, published or not. */
const FRESH = { cache: "no-store" } as const;

/** Of 128 random bits; `crypto.randomUUID` is missing where the page came by plain HTTP from another machine. */
export function randomKey(): string {
	const bytes = crypto.getRandomValues(new Uint8Array(16));
	return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * `fetch` with tenant, token and, on writes, an `Idempotency-Key`: sent again after a renewed token, it is still
 * the same write.
 */
export async function send(request: Request): Promise<Response> {
	const isRead = READS.has(request.method);
	if (!request.headers.has("Mesh-Tenant")) request.headers.set("Mesh-Tenant", tenant);
	if (!isRead && !request.headers.has("Idempotency-Key")) request.headers.set("Idempotency-Key", randomKey());
	const known = await mode;
	if (isRead) await gate();
	if (known === "development") return fetch(request, FRESH);
	const of = request.headers.get("Mesh-Tenant") ?? tenant;
	const token = await tokens.get(of);
	const again = request.clone();
	request.headers.set("Authorization", `Bearer ${token}`);
	const response = await fetch(request, FRESH);
	if (response.status !== 401) return response;
	again.headers.set("Authorization", `Bearer ${await tokens.get(of, token)}`);
	return fetch(again, FRESH);
}

export const client = createClient<paths>({ baseUrl: "/", fetch: send });

interface Answer<T> {
	data?: T;
	error?: unknown;
	response: Response;
}

async function answered<T>(answer: Promise<Answer<T>>): Promise<Answer<T>> {
	let got: Answer<T>;
	try {
		got = await answer;
	} catch (error) {
		if (error instanceof Failure || (error instanceof DOMException && error.name === "AbortError")) throw error;
		throw Failure.unreachable(error);
	}
	if (!got.response.ok) throw Failure.of(got.response, got.error as Partial<Problem> | undefined);
	return got;
}

/** The body of a good answer; anything else is thrown as a `Failure`. An answer without a body is `undefined`. */
export async function ask<T>(answer: Promise<Answer<T>>): Promise<T> {
	return (await answered(answer)).data as T;
}

/** The same with the `ETag` beside it, for a later `If-Match`. */
export async function askTagged<T>(answer: Promise<Answer<T>>): Promise<{ data: T; etag: string | undefined }> {
	const got = await answered(answer);
	return { data: got.data as T, etag: got.response.headers.get("etag") ?? undefined };
}

/** The body as it was written, for numbers that no JavaScript number holds. */
export async function askText(path: string, init: RequestInit = {}): Promise<string> {
	return (await askRaw(path, init)).text();
}

/** The same as bytes that nobody has decoded, for what is large. */
export async function askBlob(path: string, init: RequestInit = {}): Promise<Blob> {
	return (await askRaw(path, init)).blob();
}

async function askRaw(path: string, init: RequestInit): Promise<Response> {
	let response: Response;
	try {
		response = await send(new Request(new URL(path, location.origin), init));
	} catch (error) {
		if (error instanceof Failure || (error instanceof DOMException && error.name === "AbortError")) throw error;
		throw Failure.unreachable(error);
	}
	if (!response.ok) {
		throw Failure.of(response, (await response.json().catch(() => undefined)) as Partial<Problem> | undefined);
	}
	return response;
}
