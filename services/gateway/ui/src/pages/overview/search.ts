/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { one } from "../../parts/search";

export const RANGES = ["1h", "24h", "7d"] as const;
export type Range = (typeof RANGES)[number];

export interface OverviewSearch {
	/** Left out: the last hour. */
	range?: Range;
}

export function overviewSearch(given: Record<string, unknown>): OverviewSearch {
	const range = one(given.range, RANGES);
	return range && range !== "1h" ? { range } : {};
}
