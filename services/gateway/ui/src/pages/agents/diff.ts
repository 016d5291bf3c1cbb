/** Differences between two texts, line by line: what a version changes. */

export interface Line {
	readonly kind: "same" | "gone" | "new";
	readonly text: string;
	/** Number in the text that it is of, from 1. */
	readonly before?: number;
	readonly after?: number;
}

/** Lines that are compared in full; beyond, what is between the common ends counts as replaced. */
const LINES_MAX = 2_000;

/** The shortest way from one text to the other (longest common subsequence), common ends first. */
export function diffLines(before: string, after: string): Line[] {
	const [a, b] = [lines(before), lines(after)];
	let head = 0;
	while (head < a.length && head < b.length && a[head] === b[head]) head++;
	let tail = 0;
	while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail++;
	const middle = between(a.slice(head, a.length - tail), b.slice(head, b.length - tail));
	const all = [
		...a.slice(0, head).map((text) => ({ kind: "same" as const, text })),
		...middle,
		...a.slice(a.length - tail).map((text) => ({ kind: "same" as const, text })),
	];
	let [x, y] = [0, 0];
	return all.map((line) => ({
		...line,
		...(line.kind === "new" ? {} : { before: ++x }),
		...(line.kind === "gone" ? {} : { after: ++y }),
	}));
}

function lines(text: string): string[] {
	const split = text.split("\n");
	if (split.at(-1) === "") split.pop();
	return split;
}

function between(a: readonly string[], b: readonly string[]): Pick<Line, "kind" | "text">[] {
	const gone = (text: string) => ({ kind: "gone" as const, text });
	const fresh = (text: string) => ({ kind: "new" as const, text });
	if (a.length === 0 || b.length === 0 || a.length > LINES_MAX || b.length > LINES_MAX) {
		return [...a.map(gone), ...b.map(fresh)];
	}
	// Length of the longest common subsequence of what follows (i, j).
	const width = b.length + 1;
	const common = new Uint16Array((a.length + 1) * width);
	const at = (i: number, j: number) => common[i * width + j] ?? 0;
	for (let i = a.length - 1; i >= 0; i--) {
		for (let j = b.length - 1; j >= 0; j--) {
			common[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
		}
	}
	const found: Pick<Line, "kind" | "text">[] = [];
	let [i, j] = [0, 0];
	while (i < a.length || j < b.length) {
		const [x, y] = [a[i], b[j]];
		if (x !== undefined && x === y) {
			found.push({ kind: "same", text: x });
			i++;
			j++;
		} else if (x !== undefined && (y === undefined || at(i + 1, j) >= at(i, j + 1))) {
			found.push(gone(x));
			i++;
		} else if (y !== undefined) {
			found.push(fresh(y));
			j++;
		}
	}
	return found;
}

export interface Counted {
	readonly gone: number;
	readonly fresh: number;
}

export function counted(diff: readonly Line[]): Counted {
	const of = (kind: Line["kind"]) => diff.filter((line) => line.kind === kind).length;
	return { gone: of("gone"), fresh: of("new") };
}

export type Part = { readonly kind: "lines"; readonly lines: readonly Line[] } | { readonly kind: "fold"; readonly lines: readonly Line[] };

/** Changed lines with `context` unchanged ones around; longer runs of the same are folded. */
export function folded(diff: readonly Line[], context = 3): Part[] {
	const isNear = diff.map((_, at) =>
		diff.slice(Math.max(0, at - context), at + context + 1).some((line) => line.kind !== "same"),
	);
	const parts: { kind: "lines" | "fold"; lines: Line[] }[] = [];
	diff.forEach((line, at) => {
		const kind = isNear[at] ? "lines" : "fold";
		const last = parts.at(-1);
		if (last?.kind === kind) last.lines.push(line);
		else parts.push({ kind, lines: [line] });
	});
	return parts;
}
