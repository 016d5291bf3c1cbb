/** A small line of what was, without axes: its words are in its label. */
import type { ReactNode } from "react";

interface SparkProps {
	readonly label: string;
	readonly values: readonly number[];
	readonly max: number;
	readonly width?: number;
	readonly height?: number;
}

/** Points of an SVG path over `values`, 0 at the foot; one value is a flat line. */
export function line(values: readonly number[], max: number, width: number, height: number): string {
	const flat = values.length === 1 ? [...values, ...values] : values;
	const step = width / Math.max(1, flat.length - 1);
	const y = (value: number) => height - (Math.min(Math.max(value, 0), max) / (max || 1)) * height;
	return flat.map((value, index) => `${(index * step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
}

export function Spark({ label, values, max, width = 48, height = 16 }: SparkProps): ReactNode {
	if (values.length === 0) return null;
	return (
		<svg
			role="img"
			aria-label={label}
			viewBox={`-1 -1 ${width + 2} ${height + 2}`}
			width={width}
			height={height}
			preserveAspectRatio="none"
		>
			<title>{label}</title>
			<polyline points={line(values, max, width, height)} fill="none" stroke="var(--accent)" strokeWidth="1.5" />
			<path d={`M0 ${height}H${width}`} stroke="var(--edge)" strokeWidth="0.5" />
		</svg>
	);
}
