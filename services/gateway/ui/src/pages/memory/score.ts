/** What a search's score is made of, and what a forgetting would be about. */
import type { Schema } from "../../api/client";
import type { MemorySearch } from "./search";

export type Memory = Schema["Memory"];
export type Hit = Schema["Hit"];
export type Scores = Schema["Scores"];
/** Of the API's, what this page filters by. */
export type ForgetFilter = Partial<Schema["ForgetFilter"]>;

export interface Part {
	readonly name: string;
	readonly value: number;
	/** Place among the best by this part, from 1. */
	readonly rank: number | undefined;
}

/** The parts that count, as people name them; parts that were not used are left out. */
export function parts(scores: Scores): Part[] {
	const all: [string, number | null | undefined, number | null | undefined][] = [
		["meaning", scores.vector, scores.vector_rank],
		["words", scores.text, scores.text_rank],
		["fusion", scores.fusion, undefined],
		["recency", scores.recency, undefined],
		["importance", scores.importance, undefined],
		["variety", scores.mmr, undefined],
	];
	return all.flatMap(([name, value, rank]) => (value == null ? [] : [{ name, value, rank: rank ?? undefined }]));
}

/** The filter of the page as what is forgotten by it; `undefined` where nothing is given: that would be everything. */
export function forgetFilter(search: MemorySearch): ForgetFilter | undefined {
	const { agent, type, session, user, tag } = search;
	const filter = {
		...(agent === undefined ? {} : { agent }),
		...(type === undefined ? {} : { type }),
		...(session === undefined ? {} : { session }),
		...(user === undefined ? {} : { user }),
		...(tag === undefined ? {} : { tags: [tag] }),
	};
	return Object.keys(filter).length === 0 ? undefined : filter;
}

/** The same on the command line. */
export function forgetCommand(search: MemorySearch): string {
	const { agent, type, session, user, tag } = search;
	const flags = Object.entries({ agent, type, session, user, tag });
	return [
		"mesh memories forget",
		...flags.flatMap(([name, value]) => (value === undefined ? [] : [`--${name} ${quoted(value)}`])),
	].join(" ");
}

/** For a POSIX shell. */
export function quoted(text: string): string {
	return /^[A-Za-z0-9_./:@=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** `"3"`: the entity tag of a memory's version. */
export function tagOf(version: number): string {
	return `"${version}"`;
}

/** Labels as they are typed: by commas, without doubles. */
export function tagsOf(text: string): string[] {
	return [
		...new Set(
			text
				.split(",")
				.map((tag) => tag.trim())
				.filter(Boolean),
		),
	];
}
