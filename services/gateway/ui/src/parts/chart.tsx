/** A chart over time. Its library comes in a chunk of its own, after the numbers are there. */
import { Skeleton } from "@mantine/core";
import { lazy, type ReactNode, Suspense } from "react";
import { later } from "../app/later";

export interface ChartSeries {
	readonly name: string;
	/** CSS variable without dashes: `failed`, `accent`, … */
	readonly colour: string;
	/** One a time; `null` where nothing is known. */
	readonly values: readonly (number | null)[];
}

export interface ChartProps {
	/** What is shown, for those who do not see it. */
	readonly label: string;
	/** Seconds since 1970, ascending. */
	readonly times: readonly number[];
	/** From the base up when stacked. */
	readonly series: readonly ChartSeries[];
	readonly kind?: "line" | "stacked bars";
	/** How a value is written: `$0.12`. */
	readonly say?: (value: number) => string;
	readonly height?: number;
}

const Plot = lazy(later(() => import("./chart-plot")));

export function Chart(props: ChartProps): ReactNode {
	const height = props.height ?? 160;
	return (
		<figure style={{ margin: 0, minHeight: height }} aria-label={props.label} role="img">
			<Suspense fallback={<Skeleton height={height} />}>
				<Plot {...props} height={height} />
			</Suspense>
		</figure>
	);
}
