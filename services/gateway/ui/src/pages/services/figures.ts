/** Services as rows: what their processes counted since their start, and since the last time one looked. */
import type { Schema } from "../../api/client";

export type ServiceView = Schema["ServiceView"];
export type ServiceState = Schema["Brain"]["services"][number];

export interface Endpoint {
	readonly name: string;
	readonly requests: number;
	readonly errors: number;
	/** Milliseconds, over all requests. */
	readonly average_ms: number;
	/** The time that 99 of 100 took at most, in the process where that is longest. */
	readonly p99_ms: number | undefined;
	readonly last_error: string;
}

export interface ServiceRow {
	readonly name: string;
	readonly isDegraded: boolean;
	readonly since: string | undefined;
	readonly instances: readonly ServiceView[];
	readonly requests: number;
	readonly errors: number;
	/** Requests a second since the start of each process, or since the reading before. */
	readonly per_second: number;
	readonly average_ms: number;
	readonly slowest: Endpoint | undefined;
	readonly endpoints: readonly Endpoint[];
}

/** A reading, and when it was made, in milliseconds. */
export interface Reading {
	readonly at: number;
	readonly services: readonly ServiceView[];
}

/** Endpoints of one name count together, whichever process or queue they are of. */
function merged(views: readonly ServiceView[]): Endpoint[] {
	const by = new Map<string, Omit<Endpoint, "name" | "average_ms"> & { total_ms: number }>();
	for (const endpoint of views.flatMap((view) => view.endpoints)) {
		const sum = by.get(endpoint.name);
		const slowest = [sum?.p99_ms, endpoint.p99_ms].filter((p99) => typeof p99 === "number");
		by.set(endpoint.name, {
			requests: (sum?.requests ?? 0) + endpoint.requests,
			errors: (sum?.errors ?? 0) + endpoint.errors,
			total_ms: (sum?.total_ms ?? 0) + endpoint.requests * endpoint.average_ms,
			p99_ms: slowest.length === 0 ? undefined : Math.max(...slowest),
			last_error: sum?.last_error || endpoint.last_error,
		});
	}
	return [...by].map(([name, { total_ms, ...sum }]) => ({
		name,
		...sum,
		average_ms: sum.requests === 0 ? 0 : total_ms / sum.requests,
	}));
}

function perSecond(now: Reading, before: Reading | undefined, views: readonly ServiceView[]): number {
	return views.reduce((rate, view) => {
		const old = before?.services.find((other) => other.instance === view.instance && other.name === view.name);
		const from = old && before ? before.at : Date.parse(view.started_at);
		const seconds = (now.at - from) / 1_000;
		return seconds <= 0 ? rate : rate + (view.requests - (old?.requests ?? 0)) / seconds;
	}, 0);
}

/** Also services that the reconciler has seen and that do not answer now. */
export function serviceRows(now: Reading, before: Reading | undefined, states: readonly ServiceState[]): ServiceRow[] {
	const names = new Set([...states.map((state) => state.name), ...now.services.map((view) => view.name)]);
	return [...names].sort().map((name) => {
		const views = now.services.filter((view) => view.name === name);
		const state = states.find((known) => known.name === name);
		const endpoints = merged(views).sort((one, other) => other.average_ms - one.average_ms);
		const requests = views.reduce((sum, view) => sum + view.requests, 0);
		const spent = endpoints.reduce((sum, endpoint) => sum + endpoint.requests * endpoint.average_ms, 0);
		return {
			name,
			isDegraded: state?.degraded ?? views.length === 0,
			since: state?.since,
			instances: views,
			requests,
			errors: views.reduce((sum, view) => sum + view.errors, 0),
			per_second: perSecond(now, before, views),
			average_ms: requests === 0 ? 0 : spent / requests,
			slowest: endpoints.find((endpoint) => endpoint.requests > 0),
			endpoints,
		};
	});
}
