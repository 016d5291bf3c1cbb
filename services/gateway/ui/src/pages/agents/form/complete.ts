/** What may stand at a place of the YAML: names of fields, or the values of a choice, from the form. */
import type { Field, GroupField } from "./form";

export interface Option {
	readonly label: string;
	readonly detail?: string;
}

export interface Offer {
	/** Where the word that is typed begins, in characters of the line. */
	readonly from: number;
	readonly options: readonly Option[];
}

/** What may stand at `column` of the last of `lines`; the lines above say where that is. */
export function offers(lines: readonly string[], column: number, form: GroupField): Offer | undefined {
	const line = (lines.at(-1) ?? "").slice(0, column);
	const value = /^(\s*(?:- )?)([\w]+):\s+([\w-]*)$/.exec(line);
	if (value) {
		const field = at(form, [...above(lines, indent(value[1] ?? "")), value[2] ?? ""]);
		const options = valuesOf(field).map((label) => ({ label }));
		return options.length > 0 ? { from: column - (value[3]?.length ?? 0), options } : undefined;
	}
	const name = /^(\s*(?:- )?)([\w]*)$/.exec(line);
	if (!name) return undefined;
	const group = at(form, above(lines, indent(name[1] ?? "")));
	if (group?.kind !== "group") return undefined;
	const options = Object.entries(group.fields).map(([label, field]) => ({
		label: `${label}:`,
		...(field.hint ? { detail: field.hint.slice(0, 60) } : {}),
	}));
	return { from: column - (name[2]?.length ?? 0), options };
}

function valuesOf(field: Field | undefined): readonly string[] {
	if (field?.kind === "choice") return field.of;
	return field?.kind === "flag" ? ["true", "false"] : [];
}

/** Columns before the name; the dash of an item counts as indentation. */
function indent(before: string): number {
	return before.length;
}

/** Names of the fields that the last line stands in. */
function above(lines: readonly string[], depth: number): string[] {
	const names: string[] = [];
	let limit = depth;
	for (let at = lines.length - 2; at >= 0 && limit > 0; at--) {
		const found = /^(\s*(?:- )?)([\w]+):/.exec(lines[at] ?? "");
		if (!found) continue;
		const [, before = "", name = ""] = found;
		// A list may stand as far left as the name that it is of.
		const isOwner = before.length < limit || (before.length === limit - 2 && /^\s*- /.test(lines.at(-1) ?? ""));
		if (!isOwner) continue;
		names.unshift(name);
		limit = before.includes("-") ? before.indexOf("-") : before.length;
		if (limit === 0 && !before.includes("-")) break;
	}
	return names;
}

/** The field at a path of names; items of lists and maps are stepped into. */
function at(form: Field, names: readonly string[]): Field | undefined {
	let field: Field | undefined = form;
	for (const name of names) {
		while (field?.kind === "list") field = field.of;
		if (field?.kind === "map") field = field.of;
		else field = field?.kind === "group" ? field.fields[name] : undefined;
	}
	while (field?.kind === "list") field = field.of;
	return field;
}
