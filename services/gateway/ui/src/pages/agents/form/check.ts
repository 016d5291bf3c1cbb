/** Checks a declared agent against its form: types, bounds, names. What only the server knows, it says itself. */
import { type Field, type GroupField, type NumberField, nameOf, type Path, type TextField } from "./form";

export interface Issue {
	readonly path: Path;
	readonly message: string;
}

export function check(value: unknown, form: Field, path: Path = []): Issue[] {
	switch (form.kind) {
		case "text":
			return checkText(value, form, path);
		case "number":
			return checkNumber(value, form, path);
		case "flag":
			return typeof value === "boolean" ? [] : [wrong(path, value, "true or false")];
		case "choice":
			if (typeof value === "string" && form.of.includes(value)) return [];
			return [{ path, message: `must be one of ${form.of.join(", ")}` }];
		case "list":
			if (!Array.isArray(value)) return [wrong(path, value, "a list")];
			return [
				...(form.max !== undefined && value.length > form.max ? [{ path, message: `at most ${form.max}` }] : []),
				...value.flatMap((item, at) => check(item, form.of, [...path, at])),
			];
		case "map":
			if (!isMap(value)) return [wrong(path, value, "a map")];
			return Object.entries(value).flatMap(([key, item]) => check(item, form.of, [...path, key]));
		case "group":
			return checkGroup(value, form, path);
		case "json":
			return [];
	}
}

function checkText(value: unknown, form: TextField, path: Path): Issue[] {
	if (typeof value !== "string") return [wrong(path, value, "a text")];
	const found: Issue[] = [];
	if (form.min !== undefined && value.length < form.min) found.push({ path, message: "must not be empty" });
	if (form.max !== undefined && value.length > form.max) found.push({ path, message: `at most ${form.max} characters` });
	if (form.pattern !== undefined && !new RegExp(form.pattern, "u").test(value)) {
		const such = form.example === undefined ? "" : `, such as ${form.example}`;
		found.push({ path, message: `must match ${form.pattern}${such}` });
	}
	return found;
}

function checkNumber(value: unknown, form: NumberField, path: Path): Issue[] {
	if (typeof value !== "number" || !Number.isFinite(value)) return [wrong(path, value, "a number")];
	if (form.whole && !Number.isInteger(value)) return [{ path, message: "must be a whole number" }];
	if (form.min !== undefined && value < form.min) return [{ path, message: `must be at least ${form.min}` }];
	if (form.max !== undefined && value > form.max) return [{ path, message: `must be at most ${form.max}` }];
	return [];
}

function checkGroup(value: unknown, form: GroupField, path: Path): Issue[] {
	if (form.short !== undefined && typeof value === "string") return [];
	if (!isMap(value)) return [wrong(path, value, "a map")];
	const missing = form.required
		.filter((name) => value[name] === undefined || value[name] === null || isBlank(value[name], form.fields[name]))
		.map((name) => ({ path: [...path, name], message: "is needed" }));
	const held = Object.entries(value).flatMap(([name, item]) => {
		const field = form.fields[name];
		if (!field) return [{ path: [...path, name], message: unknown(name, Object.keys(form.fields)) }];
		// `null` is what is left out, where it may be.
		if (item === null) return form.required.includes(name) ? [] : checkNull(field, [...path, name]);
		return check(item, field, [...path, name]);
	});
	return [...missing, ...held];
}

/** An empty text says no more than none. */
function isBlank(value: unknown, field: Field | undefined): boolean {
	return field?.kind === "text" && value === "" && field.min === undefined && field.pattern === undefined;
}

/** The server reads an empty value as absent only where there is no default to take. */
function checkNull(field: Field, path: Path): Issue[] {
	return field.default === undefined ? [] : [{ path, message: "is empty: write a value, or leave the line out" }];
}

function wrong(path: Path, value: unknown, expected: string): Issue {
	return { path, message: `must be ${expected}, is ${nameOf(value)}` };
}

function unknown(name: string, names: readonly string[]): string {
	const near = names.map((one) => [distance(name, one), one] as const).sort(([a], [b]) => a - b)[0];
	return near && near[0] <= 2 ? `is no field here; did you mean ${near[1]}?` : "is no field here";
}

/** Edits between two words (Levenshtein). */
function distance(from: string, to: string): number {
	let row = Array.from({ length: to.length + 1 }, (_, at) => at);
	for (let i = 1; i <= from.length; i++) {
		const next = [i];
		for (let j = 1; j <= to.length; j++) {
			const change = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
			next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
		}
		row = next;
	}
	return row[to.length] ?? 0;
}

export function isMap(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
