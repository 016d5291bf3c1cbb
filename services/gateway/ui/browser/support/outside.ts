/** The world outside of the mesh, on loopback: tools that note each call, and say afterwards who called. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Call {
	/** The last part of the path. */
	readonly place: string;
	/** `<invocation>/<step>`. */
	readonly key: string;
	readonly body: unknown;
}

export interface Outside {
	readonly url: string;
	stop(): Promise<void>;
}

/** `/tool/<place>` is a tool, `/calls/<place>` lists its calls; whatever else is asked for is noted under its path. */
export async function startOutside(): Promise<Outside> {
	const calls: Call[] = [];
	const server = createServer((request, response) => {
		answer(calls, request, response).catch((error: unknown) => {
			response.writeHead(400).end(String(error));
		});
	});
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const { port } = server.address() as AddressInfo;
	return {
		url: `http://127.0.0.1:${port}`,
		stop: () =>
			new Promise((resolve) => {
				server.close(() => resolve());
				server.closeAllConnections();
			}),
	};
}

async function answer(calls: Call[], request: IncomingMessage, response: ServerResponse): Promise<void> {
	const [, kind = "", place = ""] = new URL(request.url ?? "/", "http://outside").pathname.split("/");
	const json = { "content-type": "application/json" };
	if (kind === "calls") {
		response.writeHead(200, json).end(JSON.stringify(calls.filter((call) => call.place === place)));
		return;
	}
	const parts: Buffer[] = [];
	for await (const part of request) parts.push(part as Buffer);
	const text = Buffer.concat(parts).toString();
	const body: unknown = text === "" ? null : JSON.parse(text);
	const key = String(request.headers["idempotency-key"] ?? "");
	calls.push({ place: kind === "tool" ? place : `${kind}/${place}`, key, body });
	// What the call says is to be answered, byte by byte; else what was heard.
	const raw = (body as { raw?: unknown } | null)?.raw;
	response.writeHead(200, json).end(typeof raw === "string" ? raw : JSON.stringify({ heard: body }));
}

/** Of the run's server, which its setup started. */
export function outsideUrl(path: string): string {
	return `${process.env.BROWSER_OUTSIDE_URL}/${path}`;
}

export async function callsOf(place: string): Promise<readonly Call[]> {
	return (await (await fetch(outsideUrl(`calls/${place}`))).json()) as Call[];
}
