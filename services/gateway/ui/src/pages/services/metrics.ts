/** Reading Prometheus' text format: samples with their labels, and quantiles of histograms. */

export interface Sample {
	readonly name: string;
	readonly labels: ReadonlyMap<string, string>;
	readonly value: number;
}

/** Lines of the text format; comments and what is malformed are left out. */
export function samples(text: string): Sample[] {
	const read: Sample[] = [];
	for (const row of text.split("\n")) {
		if (row === "" || row.startsWith("#")) continue;
		const parts = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)/.exec(row);
		if (!parts?.[1] || !parts[3]) continue;
		read.push({ name: parts[1], labels: labels(parts[2] ?? ""), value: number(parts[3]) });
	}
	return read;
}

function number(text: string): number {
	return text === "+Inf" ? Number.POSITIVE_INFINITY : text === "-Inf" ? Number.NEGATIVE_INFINITY : Number(text);
}

function labels(text: string): Map<string, string> {
	const read = new Map<string, string>();
	for (const [, name, value] of text.matchAll(/([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
		if (name !== undefined && value !== undefined)
			read.set(
				name,
				value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c)),
			);
	}
	return read;
}

/** Upper bounds in seconds with how many were at most so long, ascending. */
export type Buckets = readonly (readonly [bound: number, count: number])[];

/**
 * Prometheus' `histogram_quantile`: linear within the bucket that has it, the highest finite bound beyond all.
 * `undefined` without an observation.
 */
export function quantile(share: number, buckets: Buckets): number | undefined {
	const total = buckets.at(-1)?.[1] ?? 0;
	if (total === 0) return undefined;
	const rank = share * total;
	let below = 0;
	let from = 0;
	for (const [bound, count] of buckets) {
		if (count >= rank) {
			if (bound === Number.POSITIVE_INFINITY) return from;
			return count === below ? bound : from + (bound - from) * ((rank - below) / (count - below));
		}
		below = count;
		from = bound;
	}
	return from;
}

export interface Timed {
	readonly key: string;
	readonly labels: ReadonlyMap<string, string>;
	readonly count: number;
	readonly sum: number;
	readonly buckets: Buckets;
}

/** The histograms called `name`, one for each set of labels. */
export function histograms(all: readonly Sample[], name: string): Timed[] {
	const found = new Map<
		string,
		{ labels: Map<string, string>; count: number; sum: number; buckets: [number, number][] }
	>();
	for (const sample of all) {
		if (!sample.name.startsWith(`${name}_`)) continue;
		const own = new Map(sample.labels);
		const bound = own.get("le");
		own.delete("le");
		const key = JSON.stringify([...own].sort());
		const of = found.get(key) ?? { labels: own, count: 0, sum: 0, buckets: [] };
		found.set(key, of);
		if (sample.name === `${name}_count`) of.count = sample.value;
		else if (sample.name === `${name}_sum`) of.sum = sample.value;
		else if (sample.name === `${name}_bucket` && bound !== undefined) of.buckets.push([number(bound), sample.value]);
	}
	return [...found].map(([key, of]) => ({ key, ...of, buckets: of.buckets.sort(([one], [other]) => one - other) }));
}

/** Sum of a counter's or gauge's samples whose labels match. */
export function total(
	all: readonly Sample[],
	name: string,
	where: (labels: ReadonlyMap<string, string>) => boolean,
): number {
	return all.reduce((sum, sample) => (sample.name === name && where(sample.labels) ? sum + sample.value : sum), 0);
}
