/** The lazy half of `Chart`: uPlot, with colours and text of the theme. */
import "uplot/dist/uPlot.min.css";
import { useMantineColorScheme } from "@mantine/core";
import { type ReactNode, useEffect, useRef } from "react";
import uPlot from "uplot";
import { useClock } from "../app/time";
import type { ChartProps } from "./chart";
import { stacked } from "./stack";

export default function Plot(props: ChartProps & { height: number }): ReactNode {
	const box = useRef<HTMLDivElement>(null);
	const plot = useRef<uPlot>(undefined);
	const { colorScheme } = useMantineColorScheme();
	const { isUtc } = useClock();
	const { times, series, kind, say, height } = props;
	const names = series.map((one) => `${one.name}:${one.colour}`).join();
	const latest = useRef(props);
	useEffect(() => {
		latest.current = props;
	});
	// biome-ignore lint/correctness/useExhaustiveDependencies: made anew only when its shape or colours change.
	useEffect(() => {
		const element = box.current;
		if (!element) return;
		const made = new uPlot(options(latest, element.clientWidth, isUtc), data(latest.current), element);
		plot.current = made;
		const watcher = new ResizeObserver(() => {
			if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height });
		});
		watcher.observe(element);
		return () => {
			watcher.disconnect();
			made.destroy();
			plot.current = undefined;
		};
	}, [names, kind, height, colorScheme, isUtc]);
	// biome-ignore lint/correctness/useExhaustiveDependencies: new numbers into the plot that is there.
	useEffect(() => plot.current?.setData(data(latest.current)), [times, series, say]);
	return <div ref={box} />;
}

function data({ times, series, kind }: ChartProps): uPlot.AlignedData {
	const values = series.map((one) => one.values);
	if (kind !== "stacked bars") return [times, ...values] as uPlot.AlignedData;
	// Drawn from the highest sum down, so that each covers the foot of the one above it.
	return [times, ...stacked(values).reverse()] as uPlot.AlignedData;
}

function options(latest: { current: ChartProps & { height: number } }, width: number, isUtc: boolean): uPlot.Options {
	const { series, kind, height } = latest.current;
	const style = getComputedStyle(document.documentElement);
	const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
	const say = (value: number) => (latest.current.say ?? ((plain: number) => plain.toLocaleString("en")))(value);
	const isStacked = kind === "stacked bars";
	const bars = isStacked ? { paths: uPlot.paths.bars?.({ size: [0.8, 24], gap: 1 }) } : {};
	const axis: uPlot.Axis = {
		stroke: colour("dim"),
		font: '11px system-ui, sans-serif',
		grid: { stroke: `color-mix(in srgb, ${colour("edge")} 25%, transparent)`, width: 1 },
		ticks: { show: false },
	};
	const drawn = isStacked ? [...series].reverse() : series;
	return {
		width,
		height,
		...(isUtc ? { tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1_000), "Etc/UTC") } : {}),
		legend: { show: false },
		cursor: { drag: { x: false, y: false }, points: { show: !isStacked } },
		scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, Number.MIN_VALUE)] } },
		axes: [
			{ ...axis, size: 28, values: (_, splits) => splits.map((at) => clockOf(at, isUtc)) },
			{ ...axis, size: 52, values: (_, splits) => splits.map(say) },
		],
		series: [
			{},
			...drawn.map((one) => ({
				label: one.name,
				stroke: colour(one.colour),
				width: isStacked ? 0 : 1.5,
				points: { show: false },
				...(isStacked ? { fill: colour(one.colour) } : {}),
				...bars,
			})),
		] as uPlot.Series[],
	};
}

function clockOf(seconds: number, isUtc: boolean): string {
	const at = new Date(seconds * 1_000);
	const zone = isUtc ? { timeZone: "UTC" } : {};
	const time = at.toLocaleTimeString("en-GB", { ...zone, hour: "2-digit", minute: "2-digit", hour12: false });
	return time === "00:00" ? at.toLocaleDateString("en-CA", { ...zone, month: "2-digit", day: "2-digit" }) : time;
}
