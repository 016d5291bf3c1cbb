/** The form of a declared agent: data derived from its JSON Schema when the UI is built, and what follows from it. */
import data from "./agent.form.json";

interface Common {
	readonly hint?: string;
	readonly default?: unknown;
}

export interface TextField extends Common {
	readonly kind: "text";
	readonly pattern?: string;
	/** Characters. */
	readonly min?: number;
	readonly max?: number;
	readonly example?: string;
}

export interface NumberField extends Common {
	readonly kind: "number";
	readonly whole?: boolean;
	readonly min?: number;
	readonly max?: number;
}

export interface ChoiceField extends Common {
	readonly kind: "choice";
	readonly of: readonly string[];
}

export interface ListField extends Common {
	readonly kind: "list";
	readonly of: Field;
	/** Items. */
	readonly max?: number;
}

export interface MapField extends Common {
	readonly kind: "map";
	readonly of: Field;
}

export interface GroupField extends Common {
	readonly kind: "group";
	readonly fields: Readonly<Record<string, Field>>;
	readonly required: readonly string[];
	/** A bare text may stand for a group that has only this field. */
	readonly short?: string;
}

export type Field =
	| TextField
	| NumberField
	| ChoiceField
	| ListField
	| MapField
	| GroupField
	| (Common & { readonly kind: "flag" })
	| (Common & { readonly kind: "json" });

export const agentForm = data as unknown as GroupField;

/** Path of a field: names, and places in lists. */
export type Path = readonly (string | number)[];

/** `spec.tools[0].name`, as the server writes paths in its problems. */
export function pathText(path: Path): string {
	return path.map((part, at) => (typeof part === "number" ? `[${part}]` : at === 0 ? part : `.${part}`)).join("");
}

/** The inverse of `pathText`; keys that hold dots cannot be told apart, as in the server's words. */
export function parsePath(text: string): Path {
	const parts = text.matchAll(/\[(\d+)\]|[^.[\]]+/g);
	return Array.from(parts, (part) => (part[1] === undefined ? part[0] : Number(part[1])));
}

/** What a value is, for people. */
export function nameOf(value: unknown): string {
	if (value === null) return "nothing";
	if (Array.isArray(value)) return "a list";
	return { string: "a text", number: "a number", boolean: "true or false", object: "a map" }[typeof value as string] ?? "?";
}
