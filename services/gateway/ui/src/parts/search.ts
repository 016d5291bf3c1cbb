/** Reading the search part of a URL: what is unknown or malformed is left out, so that an old link still opens. */

type Given = Record<string, unknown>;

/** The texts of these names that are there and not empty. Numbers are taken for texts: a router reads `?q=42` as one. */
export function texts<K extends string>(given: Given, names: readonly K[]): { [name in K]?: string } {
	const read: { [name in K]?: string } = {};
	for (const name of names) {
		const value = given[name];
		if (typeof value === "string" && value !== "") read[name] = value;
		else if (typeof value === "number" && Number.isFinite(value)) read[name] = String(value);
	}
	return read;
}

/** One of a closed list, or nothing. */
export function one<T extends string>(value: unknown, of: readonly T[]): T | undefined {
	return of.find((known) => known === value);
}

/** `undefined` values are left out, as `exactOptionalPropertyTypes` wants it. */
export function given<T extends object>(values: { [K in keyof T]: T[K] | undefined }): T {
	return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as T;
}
