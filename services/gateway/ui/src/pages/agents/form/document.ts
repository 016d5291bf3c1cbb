/** A declared agent as one document: YAML text, read for the form and patched by it. Comments survive a patch. */
import {
	type Document,
	isCollection,
	isMap,
	isNode,
	isPair,
	isScalar,
	LineCounter,
	type Node,
	parseAllDocuments,
	parseDocument,
	type Range,
	Scalar,
	stringify,
} from "yaml";
import type { Issue } from "./check";
import type { Path } from "./form";

export interface Reading {
	readonly value: unknown;
	/** Why the text is no YAML, by place in it. */
	readonly errors: readonly Mark[];
}

/** A message at a place of the text, in characters. */
export interface Mark {
	readonly from: number;
	readonly to: number;
	readonly message: string;
}

const READ = { prettyErrors: false, uniqueKeys: true } as const;
const WRITE = { lineWidth: 0, flowCollectionPadding: false } as const;

export function read(text: string): Reading {
	const all = parseAllDocuments(text, READ);
	const document = Array.isArray(all) ? all[0] : undefined;
	if (!document) return { value: undefined, errors: [{ from: 0, to: 0, message: "nothing is declared here" }] };
	const errors = document.errors.map(({ pos: [from, to], message }) => ({ from, to, message }));
	const second = all[1];
	if (second) {
		const from = second.range[0];
		errors.push({ from, to: from, message: "an editor holds one agent: remove what follows the ---" });
	}
	if (errors.length > 0) return { value: undefined, errors };
	try {
		// Aliases may multiply: bounded.
		return { value: document.toJS({ maxAliasCount: 50 }), errors };
	} catch (error) {
		return { value: undefined, errors: [{ from: 0, to: 0, message: String(error) }] };
	}
}

/** The text with one value set, or left out where it is `undefined`; all comments stay. */
export function patch(text: string, path: Path, value: unknown): string {
	const document = parseDocument(text, READ);
	if (document.errors.length > 0) return text;
	if (value === undefined) remove(document, path);
	else set(document, path, value);
	return document.toString(WRITE);
}

function set(document: Document, path: Path, value: unknown): void {
	const held = document.getIn(path, true);
	if (isScalar(held) && !(typeof value === "object" && value !== null)) {
		// The node stays, and with it its comment.
		held.value = value;
		delete held.source;
		delete held.format;
		shape(held);
		return;
	}
	// A parent that holds no fields, such as `tools: null` or a tool by its bare name, makes room.
	for (let length = 1; length < path.length; length++) {
		const parent = document.getIn(path.slice(0, length), true);
		if (isCollection(parent)) continue;
		const short = isScalar(parent) && typeof parent.value === "string" && path[0] === "spec" && path[1] === "tools";
		const fresh = short ? { name: parent.value } : typeof path[length] === "number" ? [] : {};
		document.setIn(path.slice(0, length), document.createNode(fresh));
	}
	const node = document.createNode(value);
	if (isScalar(node)) shape(node);
	document.setIn(path, node);
}

/** Texts of several lines stand as blocks. */
function shape(node: Scalar): void {
	const isLong = typeof node.value === "string" && node.value.includes("\n");
	if (isLong) node.type = Scalar.BLOCK_LITERAL;
	else if (node.type === Scalar.BLOCK_LITERAL || node.type === Scalar.BLOCK_FOLDED) delete node.type;
}

/** Leaves it out. */
function remove(document: Document, path: Path): void {
	if (document.hasIn(path)) document.deleteIn(path);
}

/** Where in the text each issue stands: its value, or the nearest thing around it. */
export function marks(text: string, issues: readonly Issue[]): Mark[] {
	const document = parseDocument(text, READ);
	return issues.map(({ path, message }) => {
		const [from, to] = place(document, path);
		const where = path.length > 0 ? `${String(path.at(-1))} ` : "";
		return { from, to, message: `${where}${message}` };
	});
}

/** Line of a path, from 1. */
export function lineOf(text: string, path: Path): number {
	const lines = new LineCounter();
	const document = parseDocument(text, { ...READ, lineCounter: lines });
	return lines.linePos(place(document, path)[0]).line;
}

function place(document: Document, path: Path): [number, number] {
	for (let length = path.length; length > 0; length--) {
		const parent = document.getIn(path.slice(0, length - 1), true);
		const name = path[length - 1];
		const pair = isMap(parent) ? parent.items.find(({ key }) => (isScalar(key) ? key.value : key) === name) : undefined;
		const node = pair ?? document.getIn(path.slice(0, length), true);
		const range = rangeOf(node, length < path.length);
		if (range) return [range[0], range[1]];
	}
	return [0, 0];
}

/** A field is shown by its value; where something is missing inside it, by its key. */
function rangeOf(node: unknown, isAround: boolean): Range | null | undefined {
	if (isPair(node)) {
		const key = node.key as Node | null;
		const value = node.value as Node | null;
		const isSmall = isScalar(value) && value.range && value.range[1] > value.range[0] && !isAround;
		return isSmall ? value.range : key?.range;
	}
	return isNode(node) ? node.range : undefined;
}

const ORDER = ["apiVersion", "kind", "metadata", "spec"];
const SPEC_ORDER = ["runtime", "model", "instructions", "tools", "memory", "context", "session", "limits", "retry", "placement"];

/** An object as a person would write it: the names in their usual order, long texts as blocks. */
export function write(value: unknown): string {
	return stringify(ordered(value, ORDER), { ...WRITE, blockQuote: "literal", aliasDuplicateObjects: false });
}

/** Only the specification, for differences between versions. */
export function writeSpec(spec: unknown): string {
	return stringify(sorted(spec, SPEC_ORDER), { ...WRITE, blockQuote: "literal", aliasDuplicateObjects: false });
}

function ordered(value: unknown, order: readonly string[]): unknown {
	const object = sorted(value, order) as Record<string, unknown>;
	if (typeof object?.spec === "object") object.spec = sorted(object.spec, SPEC_ORDER);
	return object;
}

function sorted(value: unknown, order: readonly string[]): unknown {
	if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
	const rank = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length);
	return Object.fromEntries(Object.entries(value).sort(([a], [b]) => rank(a) - rank(b)));
}
