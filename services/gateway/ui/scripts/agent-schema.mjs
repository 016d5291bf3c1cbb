/**
 * Writes the form of a declared agent, derived from its JSON Schema in the OpenAPI document: kinds, bounds, defaults,
 * hints. `npm run api` runs it; what it writes is checked by `form.test.ts`.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** The form of one schema of a document, references followed. */
export function formOf(document, name) {
	return field({ $ref: `#/components/schemas/${name}` }, document);
}

function field(given, document) {
	const { schema, hint, fallback } = resolved(given, document);
	const common = {
		...(hint ? { hint: hint.replaceAll("\n", " ") } : {}),
		...(fallback === undefined || fallback === null ? {} : { default: fallback }),
	};
	return { ...kind(schema, document), ...common };
}

/** Follows a reference, and leaves `null` out of alternatives: what may be null may be absent. The outer words win. */
function resolved(given, document) {
	let schema = given;
	let hint = given.description;
	let fallback = given.default;
	for (;;) {
		const real = (schema.oneOf ?? []).filter((one) => one.type !== "null");
		if (schema.$ref) schema = document.components.schemas[schema.$ref.split("/").pop()];
		else if (schema.oneOf && real.length === 1) schema = real[0];
		else return { schema, hint, fallback };
		hint ??= schema.description;
		fallback ??= schema.default;
	}
}

function kind(schema, document) {
	const type = Array.isArray(schema.type) ? schema.type.find((one) => one !== "null") : schema.type;
	if (schema.enum) return { kind: "choice", of: schema.enum };
	if (schema.oneOf) return either(schema, document);
	switch (type) {
		case "string":
			return {
				kind: "text",
				...picked(schema, { pattern: "pattern", minLength: "min", maxLength: "max", example: "example" }),
			};
		case "integer":
		case "number":
			return {
				kind: "number",
				...(type === "integer" ? { whole: true } : {}),
				...picked(schema, { minimum: "min", maximum: "max" }),
			};
		case "boolean":
			return { kind: "flag" };
		case "array":
			return { kind: "list", of: field(schema.items, document), ...picked(schema, { maxItems: "max" }) };
		case "object":
			return schema.properties ? group(schema, document) : { kind: "map", of: field(schema.additionalProperties, document) };
		default:
			return { kind: "json" };
	}
}

function group(schema, document) {
	const entries = Object.entries(schema.properties).map(([name, one]) => [name, field(one, document)]);
	return { kind: "group", fields: Object.fromEntries(entries), required: schema.required ?? [] };
}

/** A text that stands for an object, such as a tool by its name. */
function either(schema, document) {
	const forms = schema.oneOf.map((one) => field(one, document));
	const long = forms.find((form) => form.kind === "group");
	if (!long || !forms.some((form) => form.kind === "text")) return { kind: "json" };
	return { ...long, short: "name" };
}

function picked(schema, names) {
	const entries = Object.entries(names).filter(([from]) => schema[from] !== undefined);
	return Object.fromEntries(entries.map(([from, to]) => [to, schema[from]]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const document = JSON.parse(readFileSync(here("../../../../docs/reference/openapi.json"), "utf8"));
	const text = `${JSON.stringify(formOf(document, "Agent"), null, "\t")}\n`;
	writeFileSync(here("../src/pages/agents/form/agent.form.json"), text);
}
