/** Cutting a text at its pieces. Offsets of the API count characters, those of JavaScript half of some. */
import type { Schema } from "../../api/client";

type Chunk = Schema["ChunkView"];

export interface Slice {
	/** In characters (Unicode scalar values), as the API counts. */
	readonly start: number;
	readonly text: string;
	/** Number of the piece; `undefined`: of none. */
	readonly piece: number | undefined;
	readonly title: string | undefined;
}

/** Where pieces overlap, what was begun goes on and the next one has the rest. */
export function cut(text: string, chunks: readonly Chunk[], shown_max: number): Slice[] {
	const characters = Array.from(text.slice(0, shown_max));
	const slices: Slice[] = [];
	let at = 0;
	const take = (to: number, piece: Chunk | undefined) => {
		const end = Math.min(to, characters.length);
		if (end <= at) return;
		const headings = piece?.headings.join(" › ");
		slices.push({
			start: at,
			text: characters.slice(at, end).join(""),
			piece: piece?.number,
			title: piece && [`piece ${piece.number}`, headings].filter(Boolean).join(": "),
		});
		at = end;
	};
	for (const chunk of [...chunks].sort((one, other) => one.start - other.start)) {
		take(chunk.start, undefined);
		take(chunk.end, chunk);
	}
	take(characters.length, undefined);
	return slices;
}
