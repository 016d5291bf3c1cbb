/** How the form is laid out: order, words, what is open at first, and what belongs to another choice. */
import { isMap } from "./check";
import type { Field, GroupField, Path } from "./form";

/** What people look for first; the rest follows as the schema has it. */
const FIRST = [
	...["name", "runtime", "kind", "model", "instructions", "tools", "description"],
	...["memory", "context", "session", "limits", "retry", "placement"],
];

export function wordsFirst(names: readonly string[]): string[] {
	const rank = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
	return [...names].sort((a, b) => rank(a) - rank(b));
}

const OPEN = new Set(["metadata", "spec", "model"]);

/** Tools are folded to their names, settings that rarely change to theirs. */
export function isOpenFirst(path: Path): boolean {
	return OPEN.has(String(path.at(-1)));
}

/** `max_tokens` is said "Max tokens". */
export function words(name: string): string {
	const text = name.replaceAll("_", " ").replace(/\busd\b/, "USD").replace(/\burl\b/, "URL").replace(/\bmcp\b/, "MCP");
	return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Fields that belong to one choice beside them without having its name. */
const BELONGS: Readonly<Record<string, { choice: string; to: readonly string[] }>> = {
	url: { choice: "kind", to: ["http"] },
	allow: { choice: "kind", to: ["builtin"] },
	parameters: { choice: "kind", to: ["http", "mcp", "agent", "script"] },
	returns: { choice: "kind", to: ["http", "mcp", "agent", "script"] },
};

/** Whether a field is shown: it is set, or it belongs to no other choice than the one made. */
export function isOffered(group: GroupField, name: string, held: Readonly<Record<string, unknown>>): boolean {
	if (held[name] !== undefined && held[name] !== null) return true;
	for (const [choice, field] of Object.entries(group.fields)) {
		if (field.kind !== "choice" || choice === name) continue;
		const chosen = held[choice] ?? field.default ?? field.of[0];
		const belongs = BELONGS[name];
		if (belongs?.choice === choice && typeof chosen === "string" && !belongs.to.includes(chosen)) return false;
		if (field.of.includes(name) && name !== chosen) return false;
	}
	return true;
}

/** What a new one begins with: what it needs, empty. */
export function fresh(field: Field): unknown {
	switch (field.kind) {
		case "text":
			return "";
		case "number":
			return field.min ?? 0;
		case "flag":
			return false;
		case "choice":
			return field.of[0];
		case "list":
			return [];
		case "map":
			return {};
		case "json":
			return null;
		case "group": {
			const needed = field.required.map((name) => {
				const inner = field.fields[name];
				return [name, inner ? fresh(inner) : null] as const;
			});
			return Object.fromEntries(needed);
		}
	}
}

/** How a folded item of a list is called. */
export function heading(item: unknown, otherwise: string): string {
	if (typeof item === "string") return item === "" ? otherwise : item;
	if (!isMap(item) || typeof item.name !== "string" || item.name === "") return otherwise;
	const facts = [item.kind, item.effect, item.approval === "always" ? "asks" : undefined];
	return [item.name, ...facts.filter((fact) => typeof fact === "string")].join(" · ");
}
