/** What differs between two JSON values, by path, as short texts. */

export interface Change {
	readonly path: string;
	readonly before: string | undefined;
	readonly after: string | undefined;
}

/** Longer texts are cut: the fact itself has them whole. */
const TEXT_MAX = 160;

function said(value: unknown): string | undefined {
	if (value === undefined || value === null) return undefined;
	const text = typeof value === "string" ? value : JSON.stringify(value);
	return text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text;
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Objects are gone into, lists are compared whole; what is equal or absent on both sides is left out. */
export function changes(before: unknown, after: unknown, path = ""): Change[] {
	if (isRecord(before) || isRecord(after)) {
		const [old, now] = [isRecord(before) ? before : {}, isRecord(after) ? after : {}];
		const names = [...new Set([...Object.keys(old), ...Object.keys(now)])];
		return names.flatMap((name) => changes(old[name], now[name], path === "" ? name : `${path}.${name}`));
	}
	const [old, now] = [said(before), said(after)];
	if ((before ?? "") === "" && (after ?? "") === "") return [];
	return JSON.stringify(before ?? null) === JSON.stringify(after ?? null)
		? []
		: [{ path: path || "value", before: old, after: now }];
}
