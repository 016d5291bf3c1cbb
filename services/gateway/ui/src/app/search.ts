/** Search parts of URLs, checked: what is unknown or malformed is left out, so that an old link still opens. */
import type { InvocationState } from "../theme/tokens";

const STATES: readonly InvocationState[] = ["queued", "running", "waiting", "completed", "failed", "cancelled", "dead"];

export interface InvocationSearch {
	agent?: string;
	state?: InvocationState;
	session?: string;
	since?: string;
	q?: string;
}

/** A router reads `?q=42` as a number. */
function text(value: unknown): string | undefined {
	if (typeof value === "number") return String(value);
	return typeof value === "string" && value !== "" ? value : undefined;
}

function set<T extends object, K extends keyof T>(into: T, key: K, value: T[K] | undefined): void {
	if (value !== undefined) into[key] = value;
}

export function invocationSearch(given: Record<string, unknown>): InvocationSearch {
	const search: InvocationSearch = {};
	set(search, "agent", text(given.agent));
	set(
		search,
		"state",
		STATES.find((state) => state === given.state),
	);
	set(search, "session", text(given.session));
	const since = text(given.since);
	set(search, "since", since && !Number.isNaN(Date.parse(since)) ? since : undefined);
	set(search, "q", text(given.q));
	return search;
}
