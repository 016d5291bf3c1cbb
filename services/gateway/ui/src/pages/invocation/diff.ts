/** What is different between two lists or texts: the shortest edit (Myers, "An O(ND) Difference Algorithm", 1986). */

export interface Part<T> {
	readonly kind: "same" | "gone" | "new";
	readonly items: readonly T[];
}

/** Edits beyond this many are told as one replacement: nobody reads them, and their search grows with the square. */
const EDITS_MAX = 500;

export function diff<T>(from: readonly T[], to: readonly T[], isSame: (a: T, b: T) => boolean = Object.is): Part<T>[] {
	let head = 0;
	while (head < from.length && head < to.length && same(from, head, to, head, isSame)) head += 1;
	let tail = 0;
	const most = Math.min(from.length, to.length) - head;
	while (tail < most && same(from, from.length - 1 - tail, to, to.length - 1 - tail, isSame)) tail += 1;
	const middle = edits(from.slice(head, from.length - tail), to.slice(head, to.length - tail), isSame);
	return joined([
		{ kind: "same", items: from.slice(0, head) },
		...middle,
		{ kind: "same", items: from.slice(from.length - tail) },
	]);
}

function same<T>(a: readonly T[], i: number, b: readonly T[], j: number, isSame: (a: T, b: T) => boolean): boolean {
	return isSame(a[i] as T, b[j] as T);
}

function edits<T>(from: readonly T[], to: readonly T[], isSame: (a: T, b: T) => boolean): Part<T>[] {
	const whole: Part<T>[] = [
		{ kind: "gone", items: from },
		{ kind: "new", items: to },
	];
	if (from.length === 0 || to.length === 0) return whole;
	// furthest[k]: how far into `from` a path on diagonal k comes; one copy for each number of edits, to walk back.
	const trace: Map<number, number>[] = [];
	let furthest = new Map([[1, 0]]);
	for (let d = 0; d <= Math.min(from.length + to.length, EDITS_MAX); d += 1) {
		trace.push(furthest);
		const next = new Map(furthest);
		for (let k = -d; k <= d; k += 2) {
			const isDown = k === -d || (k !== d && (furthest.get(k - 1) ?? -1) < (furthest.get(k + 1) ?? -1));
			let x = isDown ? (furthest.get(k + 1) ?? 0) : (furthest.get(k - 1) ?? 0) + 1;
			while (x < from.length && x - k < to.length && same(from, x, to, x - k, isSame)) x += 1;
			next.set(k, x);
			if (x >= from.length && x - k >= to.length) return walkedBack(from, to, trace);
		}
		furthest = next;
	}
	return whole;
}

function walkedBack<T>(from: readonly T[], to: readonly T[], trace: readonly Map<number, number>[]): Part<T>[] {
	const parts: Part<T>[] = [];
	let [x, y] = [from.length, to.length];
	for (let d = trace.length - 1; d >= 0; d -= 1) {
		const furthest = trace[d] as Map<number, number>;
		const k = x - y;
		const isDown = k === -d || (k !== d && (furthest.get(k - 1) ?? -1) < (furthest.get(k + 1) ?? -1));
		const before = isDown ? k + 1 : k - 1;
		const start = furthest.get(before) ?? 0;
		while (x > 0 && y > 0 && x > (isDown ? start : start + 1)) {
			x -= 1;
			y -= 1;
			parts.push({ kind: "same", items: [from[x] as T] });
		}
		if (d === 0) break;
		if (isDown) {
			y -= 1;
			parts.push({ kind: "new", items: [to[y] as T] });
		} else {
			x -= 1;
			parts.push({ kind: "gone", items: [from[x] as T] });
		}
	}
	return parts.reverse();
}

/** Neighbours of one kind become one part; what goes stands before what comes in its place. */
function joined<T>(parts: readonly Part<T>[]): Part<T>[] {
	const out: { kind: Part<T>["kind"]; items: T[] }[] = [];
	let gone: T[] = [];
	let fresh: T[] = [];
	const flush = () => {
		if (gone.length > 0) out.push({ kind: "gone", items: gone });
		if (fresh.length > 0) out.push({ kind: "new", items: fresh });
		[gone, fresh] = [[], []];
	};
	for (const part of parts) {
		if (part.items.length === 0) continue;
		if (part.kind === "gone") gone.push(...part.items);
		else if (part.kind === "new") fresh.push(...part.items);
		else {
			flush();
			const last = out.at(-1);
			if (last?.kind === "same") last.items.push(...part.items);
			else out.push({ kind: "same", items: [...part.items] });
		}
	}
	flush();
	return out;
}

export interface Piece {
	readonly kind: Part<string>["kind"];
	readonly text: string;
}

/** Words, and what stands between them. */
export function words(text: string): string[] {
	return text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) ?? [];
}

/** Two texts as what stayed, went and came, word by word. */
export function textDiff(from: string, to: string): Piece[] {
	return diff(words(from), words(to)).map(({ kind, items }) => ({ kind, text: items.join("") }));
}

/** Two texts line by line. */
export function lineDiff(from: string, to: string): Piece[] {
	return diff(from.split("\n"), to.split("\n")).flatMap(({ kind, items }) => items.map((text) => ({ kind, text })));
}

/** Share of the words that stayed, 0 to 1. */
export function likeness(pieces: readonly Piece[]): number {
	let [same, all] = [0, 0];
	for (const { kind, text } of pieces) {
		const length = text.trim().length * (kind === "same" ? 2 : 1);
		all += length;
		if (kind === "same") same += length;
	}
	return all === 0 ? 1 : same / all;
}
