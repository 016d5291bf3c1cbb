/** Recordings that no test can wait for, answered in place of the API: long ones, and ones with large bodies. */
import type { Page } from "@playwright/test";

export const BEGIN = Date.parse("2026-11-20T08:00:00Z");
export const ID = "inv_01KAGB00000000000000000001";
const at = (ms: number) => new Date(BEGIN + ms).toISOString();

export interface Recorded {
	readonly number: number;
	readonly kind: string;
	readonly name: string;
	readonly input?: unknown;
	/** JSON, byte by byte as the API writes it. */
	readonly output?: string;
	readonly [more: string]: unknown;
}

/** Milliseconds since the beginning. */
export function step(number: number, kind: string, name: string, from: number, to: number | null, output = '{"ok":true}'): Recorded {
	return {
		number,
		kind,
		name,
		effect: "idempotent",
		usage: { input_tokens: 10, output_tokens: 2, cost_usd: 0.001 },
		attempt: 1,
		epoch: 1,
		error: null,
		started_at: at(from),
		ended_at: to === null ? null : at(to),
		input: { of: number },
		output,
	};
}

export interface Read {
	/** Steps whose bodies were read, in their order. */
	readonly bodies: readonly number[];
}

/** Answers for the invocation `ID`, which is running unless it has ended. */
export async function routeRecording(page: Page, steps: readonly Recorded[], more: Record<string, unknown> = {}): Promise<Read> {
	const bodies: number[] = [];
	const last = steps.at(-1);
	const invocation = {
		id: ID,
		tenant: "default",
		agent: "ada",
		version: 1,
		state: "completed",
		entrypoint: "invoke",
		priority: 5,
		payload: { text: "recorded" },
		attempt: 1,
		created_at: at(0),
		started_at: at(0),
		ended_at: last?.ended_at ?? null,
		cursor: 1,
		usage: { input_tokens: 10, output_tokens: 2, cost_usd: 0.001 },
		waits_for: [],
		paused: false,
		output: null,
		error: null,
		...more,
	};
	await page.route(new RegExp(`/api/v1/invocations/${ID}$`), (route) => route.fulfill({ json: invocation }));
	await page.route(new RegExp(`/api/v1/invocations/${ID}/history`), (route) => route.fulfill({ json: { items: [], next: null } }));
	await page.route(new RegExp(`/api/v1/invocations\\?root=${ID}`), (route) =>
		route.fulfill({ json: { items: [invocation], next: null } }),
	);
	await page.route(new RegExp(`/api/v1/invocations/${ID}/steps\\?`), (route) => {
		const query = new URL(route.request().url()).searchParams;
		const [after, limit] = [Number(query.get("after") ?? "0"), Number(query.get("limit") ?? "100")];
		const isWithBodies = query.get("bodies") !== "false";
		const shown = steps.slice(after, after + limit);
		if (isWithBodies) bodies.push(...shown.map(({ number }) => number));
		const items = shown.map((one) => written(one, isWithBodies)).join(",");
		const next = after + limit < steps.length ? JSON.stringify(String(after + limit)) : "null";
		return route.fulfill({ contentType: "application/json", body: `{"items":[${items}],"next":${next}}` });
	});
	return { bodies };
}

function written({ input, output, ...step }: Recorded, isWithBodies: boolean): string {
	const rest = JSON.stringify(step);
	if (!isWithBodies) return rest;
	return `${rest.slice(0, -1)},"input":${JSON.stringify(input)},"output":${output ?? "null"}}`;
}
