/** Queries of Prometheus that never multiply series: every one says over what it sums, and rates come before sums. */

export interface Pick {
	/** Labels that stay. */
	by?: readonly string[];
	/** Matchers, such as `status=~"5.."`. */
	where?: string;
}

const matchers = (pick: Pick) => (pick.where ? `{${pick.where}}` : "");
const kept = (pick: Pick) => (pick.by?.length ? ` by (${pick.by.join(", ")})` : "");

/** How often a counter counts, per second. */
export const perSecond = (counter: string, pick: Pick = {}) =>
	`sum${kept(pick)} (rate(${counter}${matchers(pick)}[$__rate_interval]))`;

/**
 * What a counter counted within the time that the panel shows. `increase` alone does not see the value that a series begins
 * with: a series that was not there at the begin, while Prometheus was, counts whole.
 */
export const counted = (counter: string, pick: Pick = {}) => {
	const series = `${counter}${matchers(pick)}`;
	const fresh = `${series} unless ${series} offset $__range and on () up offset $__range`;
	return `sum${kept(pick)} (${fresh} or increase(${series}[$__range]))`;
};

/** A part of a whole; nothing where the whole is nothing, as 0 / 0 would be shown as such. */
export const share = (part: string, whole: string) => `${part} / (${whole} > 0)`;

/** A share of a histogram's observations took at most this long. */
export const quantile = (share: number, histogram: string, pick: Pick = {}) => {
	const by = ["le", ...(pick.by ?? [])].join(", ");
	return `histogram_quantile(${share}, sum by (${by}) (rate(${histogram}_bucket${matchers(pick)}[$__rate_interval])))`;
};

/** The mean of a histogram's observations. */
export const mean = (histogram: string, pick: Pick = {}) =>
	`${perSecond(`${histogram}_sum`, pick)} / ${perSecond(`${histogram}_count`, pick)}`;

/** A gauge of which each process says its own part. */
export const total = (gauge: string, pick: Pick = {}) => `sum${kept(pick)} (${gauge}${matchers(pick)})`;

/** A gauge of which every process that says it says the same. */
export const highest = (gauge: string, pick: Pick = {}) => `max${kept(pick)} (${gauge}${matchers(pick)})`;

/** 0 where nothing was ever counted: an empty panel would look like a broken one. */
export const orZero = (query: string) => `${query} or vector(0)`;
