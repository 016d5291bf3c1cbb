/** The line that filters: `agent:sofia session:s1 state:failed since:24h invoice 88`. */
import { type InvocationSearch, invocationSearch } from "../../app/search";

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time as it is, or `30m`, `24h`, `7d` before `now`; `undefined` if it is neither. */
export function since(text: string, now: number): string | undefined {
	const span = /^(\d{1,5})([mhd])$/.exec(text);
	if (span) return new Date(now - Number(span[1]) * (UNITS[span[2] ?? ""] ?? 0)).toISOString();
	const at = Date.parse(text);
	return Number.isNaN(at) ? undefined : new Date(at).toISOString();
}

/** Names and their values into filters, the rest into words to search for. */
export function parse(line: string, now: number): InvocationSearch {
	const given: Record<string, string> = {};
	const words: string[] = [];
	for (const word of line.split(/\s+/).filter(Boolean)) {
		const [, name, value] = /^(agent|session|state|since):(.+)$/.exec(word) ?? [];
		const read = name === "since" && value ? since(value, now) : value;
		if (name && read) given[name] = read;
		else words.push(word);
	}
	return invocationSearch({ ...given, q: words.join(" ") });
}
