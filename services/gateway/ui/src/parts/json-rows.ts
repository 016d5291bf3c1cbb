/** Which rows of an indexed JSON text are shown under which folds; paths, values and finding. */
import { DEPTH, END, INSIDE, KEY_END, KEY_START, KIND, Kind, START, WIDTH } from "./json-index";

export interface Json {
	readonly text: string;
	readonly cells: Int32Array;
}

/** Containers with more nodes begin folded, except the outermost. */
const UNFOLDED_MAX = 100;

export const nodes = (json: Json): number => json.cells.length / WIDTH;
export const field = (json: Json, node: number, which: number): number => json.cells[node * WIDTH + which] ?? -1;
export const isContainer = (json: Json, node: number): boolean => field(json, node, KIND) <= Kind.array;

/** Whether a container is open without anybody's choice. */
export function opensItself(json: Json, node: number): boolean {
	return node === 0 || field(json, node, INSIDE) <= UNFOLDED_MAX;
}

/** Nodes in sight, in order: folded ones' insides are skipped, not walked. `chosen`: node → open. */
export function visible(json: Json, chosen: ReadonlyMap<number, boolean>): number[] {
	const rows: number[] = [];
	const all = nodes(json);
	let node = 0;
	while (node < all) {
		rows.push(node);
		const isOpen = !isContainer(json, node) || (chosen.get(node) ?? opensItself(json, node));
		node += isOpen ? 1 : field(json, node, INSIDE) + 1;
	}
	return rows;
}

/** The value as it was written. */
export function written(json: Json, node: number): string {
	return json.text.slice(field(json, node, START), field(json, node, END));
}

export function keyOf(json: Json, node: number): string | undefined {
	const start = field(json, node, KEY_START);
	return start < 0 ? undefined : (JSON.parse(json.text.slice(start, field(json, node, KEY_END))) as string);
}

/** What holds a node; -1 for the outermost. */
export function parentOf(json: Json, node: number): number {
	const depth = field(json, node, DEPTH);
	for (let before = node - 1; before >= 0; before--) {
		if (field(json, before, DEPTH) < depth) return before;
	}
	return -1;
}

/** `$.items[3].name`, as JSONPath writes it. */
export function pathOf(json: Json, node: number): string {
	const parent = parentOf(json, node);
	if (parent < 0) return "$";
	const key = keyOf(json, node);
	const before = pathOf(json, parent);
	if (key !== undefined) return /^[A-Za-z_]\w*$/.test(key) ? `${before}.${key}` : `${before}[${JSON.stringify(key)}]`;
	let place = 0;
	for (let child = parent + 1; child < node; child += field(json, child, INSIDE) + 1) place++;
	return `${before}[${place}]`;
}

/** Direct children. */
export function countOf(json: Json, node: number): number {
	let count = 0;
	const end = node + field(json, node, INSIDE);
	for (let child = node + 1; child <= end; child += field(json, child, INSIDE) + 1) count++;
	return count;
}

/** The next node after `from` whose key or value has the words; wraps around; -1 when there is none. */
export function find(json: Json, words: string, from: number): number {
	const wanted = words.toLowerCase();
	if (wanted === "") return -1;
	const all = nodes(json);
	for (let step = 1; step <= all; step++) {
		const node = (from + step) % all;
		const key = field(json, node, KEY_START);
		const start = key < 0 ? field(json, node, START) : key;
		const end = isContainer(json, node) ? Math.max(start, field(json, node, KEY_END)) : field(json, node, END);
		if (end - start >= wanted.length && json.text.slice(start, end).toLowerCase().includes(wanted)) return node;
	}
	return -1;
}
