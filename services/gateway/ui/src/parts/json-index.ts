/**
 * JSON read without making values of it: where each node of the text begins and ends. Numbers stay as they were
 * written, and a large body costs one array of numbers that a worker can hand over without a copy.
 */

/** Fields of a node in the index. */
export const WIDTH = 7;
export const KIND = 0;
/** Offsets of the value in the text. */
export const START = 1;
export const END = 2;
export const DEPTH = 3;
/** Offsets of the key with its quotes; -1 for items of arrays and the whole. */
export const KEY_START = 4;
export const KEY_END = 5;
/** Nodes inside, of all depths. */
export const INSIDE = 6;

export const Kind = { object: 0, array: 1, text: 2, number: 3, word: 4 } as const;

export class Malformed extends Error {
	readonly at: number;
	constructor(at: number) {
		super(`not JSON at character ${at}`);
		this.name = "Malformed";
		this.at = at;
	}
}

const QUOTE = 34;
const BACKSLASH = 92;

/** `WIDTH` numbers a node, parents before their children. Throws `Malformed`. No recursion: depth is not bounded. */
export function indexJson(text: string): Int32Array {
	let cells = new Int32Array(1_024);
	let used = 0;
	/** Open containers, as places of their nodes. */
	const open: number[] = [];
	let key = -1;
	let keyEnd = -1;
	let at = space(text, 0);

	const begin = (kind: number, start: number): number => {
		if (used + WIDTH > cells.length) {
			const grown = new Int32Array(cells.length * 2);
			grown.set(cells);
			cells = grown;
		}
		cells.set([kind, start, -1, open.length, key, keyEnd, 0], used);
		key = keyEnd = -1;
		used += WIDTH;
		return used - WIDTH;
	};
	const end = (node: number, stop: number): void => {
		cells[node + END] = stop;
		cells[node + INSIDE] = (used - node) / WIDTH - 1;
	};

	for (;;) {
		// A value begins here.
		const code = text.charCodeAt(at);
		const isObject = code === 123;
		let isDone = true;
		if (isObject || code === 91) {
			const node = begin(isObject ? Kind.object : Kind.array, at);
			at = space(text, at + 1);
			if (text.charCodeAt(at) === (isObject ? 125 : 93)) {
				at++;
				end(node, at);
			} else {
				open.push(node);
				isDone = false;
			}
		} else {
			const kind = code === QUOTE ? Kind.text : code === 45 || (code >= 48 && code <= 57) ? Kind.number : Kind.word;
			const node = begin(kind, at);
			at = kind === Kind.text ? string(text, at) : scalar(text, at, kind);
			end(node, at);
		}
		// Closes what ends here, then goes to where the next value begins.
		while (isDone) {
			at = space(text, at);
			const parent = open.at(-1);
			if (parent === undefined) {
				if (at !== text.length) throw new Malformed(at);
				return cells.slice(0, used);
			}
			const next = text.charCodeAt(at++);
			if (next === 44) break;
			if (next !== (cells[parent] === Kind.object ? 125 : 93)) throw new Malformed(at - 1);
			open.pop();
			end(parent, at);
		}
		at = space(text, at);
		const parent = open.at(-1);
		if (parent !== undefined && cells[parent] === Kind.object) {
			if (text.charCodeAt(at) !== QUOTE) throw new Malformed(at);
			key = at;
			keyEnd = string(text, at);
			at = space(text, keyEnd);
			if (text.charCodeAt(at) !== 58) throw new Malformed(at);
			at = space(text, at + 1);
		}
	}
}

function space(text: string, from: number): number {
	let at = from;
	for (;;) {
		const code = text.charCodeAt(at);
		if (code !== 32 && code !== 10 && code !== 13 && code !== 9) return at;
		at++;
	}
}

/** End of the string that begins at `from`. */
function string(text: string, from: number): number {
	for (let at = from + 1; at < text.length; at++) {
		const code = text.charCodeAt(at);
		if (code === BACKSLASH) at++;
		else if (code === QUOTE) return at + 1;
	}
	throw new Malformed(from);
}

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;

function scalar(text: string, from: number, kind: number): number {
	const pattern = kind === Kind.number ? NUMBER : WORD;
	pattern.lastIndex = from;
	if (!pattern.test(text)) throw new Malformed(from);
	return pattern.lastIndex;
}
