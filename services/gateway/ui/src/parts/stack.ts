/** Sums for stacked series. */

type Values = readonly (number | null)[];

/** Each series on top of those before it; nothing counts as 0. */
export function stacked(series: readonly Values[]): number[][] {
	const sums: number[] = [];
	return series.map((values) =>
		values.map((value, index) => {
			sums[index] = (sums[index] ?? 0) + (value ?? 0);
			return sums[index];
		}),
	);
}
