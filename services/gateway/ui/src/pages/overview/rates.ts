/** Numbers of the overview: rates and shares out of counts. */
import type { Schema } from "../../api/client";

export type Overview = Schema["Overview"];
type Ended = Pick<Schema["EndedCounts"], "completed" | "failed" | "cancelled" | "dead">;

export function endedAll(counts: Ended): number {
	return counts.completed + counts.failed + counts.cancelled + counts.dead;
}

/** Seconds that were counted: the last part is still running. */
export function seconds(overview: Pick<Overview, "at" | "since">): number {
	return Math.max(1, (Date.parse(overview.at) - Date.parse(overview.since)) / 1_000);
}

/** Of a count over the range, how many in `unit` seconds. */
export function rate(count: number, overview: Pick<Overview, "at" | "since">, unit: number): number {
	return (count * unit) / seconds(overview);
}

/** `312`, `4.2`, `.03`: three digits, no more. */
export function short(value: number): string {
	if (value === 0) return "0";
	if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
	return value.toLocaleString("en", { maximumSignificantDigits: 2 });
}

/** `$1.83`, `$.0042`. */
export function dollars(value: number): string {
	if (value === 0) return "$0";
	return `$${value >= 1 ? value.toLocaleString("en", { maximumFractionDigits: 2 }) : value.toPrecision(2).replace(/^0/, "")}`;
}

/** Share of what ended that failed or ended dead, in percent; `undefined` where nothing ended. */
export function failedPercent(ended: Ended): number | undefined {
	const all = endedAll(ended);
	return all === 0 ? undefined : ((ended.failed + ended.dead) * 100) / all;
}
