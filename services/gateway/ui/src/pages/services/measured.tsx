/** Times that this process measured: routes at the edge and loops behind it, the slowest first. */
import type { ReactNode } from "react";
import { type Column, Grid } from "../../parts/grid";
import { Empty } from "../../parts/empty";
import { histograms, quantile, type Sample, type Timed, total } from "./metrics";
import css from "./services.module.css";

interface Row extends Timed {
	readonly name: string;
	readonly of: string;
	readonly failed: number;
	readonly p50: number | undefined;
	readonly p99: number | undefined;
}

function slowestFirst(
	all: readonly Timed[],
	name: (of: Timed) => [string, string],
	failed: (of: Timed) => number,
): Row[] {
	const rows = all.map((timed) => {
		const [first, second] = name(timed);
		const times = { p50: quantile(0.5, timed.buckets), p99: quantile(0.99, timed.buckets) };
		return { ...timed, name: first, of: second, failed: failed(timed), ...times };
	});
	return rows.sort((one, other) => (other.p99 ?? 0) - (one.p99 ?? 0));
}

export function Routes({ all }: { all: readonly Sample[] }): ReactNode {
	const label = (timed: Timed, name: string) => timed.labels.get(name) ?? "";
	const rows = slowestFirst(
		histograms(all, "mesh_http_duration_seconds"),
		(timed) => [label(timed, "route"), label(timed, "method")],
		(timed) =>
			total(
				all,
				"mesh_http_requests_total",
				(of) =>
					of.get("route") === label(timed, "route") &&
					of.get("method") === label(timed, "method") &&
					Number(of.get("status")) >= 500,
			),
	);
	if (rows.length === 0) return <Empty says="No request was answered yet." />;
	return (
		<>
			<Grid
				hasKeys
				label="Routes, slowest first"
				columns={columns("Route", "Method", "Answered 5xx")}
				items={rows}
				id={(row) => row.key}
			/>
			<p className={css.dim}>
				Time to the head of the answer, since this gateway started. Quantiles are within the bucket that has them.
			</p>
		</>
	);
}

export function Loops({ all }: { all: readonly Sample[] }): ReactNode {
	const label = (timed: Timed, name: string) => timed.labels.get(name) ?? "";
	const rows = slowestFirst(
		histograms(all, "mesh_loop_pass_duration_seconds"),
		(timed) => [label(timed, "loop"), label(timed, "mesh_service")],
		(timed) =>
			total(
				all,
				"mesh_loop_passes_total",
				(of) =>
					of.get("loop") === label(timed, "loop") &&
					of.get("mesh_service") === label(timed, "mesh_service") &&
					of.get("outcome") === "failed",
			),
	);
	if (rows.length === 0) return <Empty says="No loop has made a pass in this process." />;
	return (
		<>
			<Grid
				hasKeys
				label="Loops, slowest first"
				columns={columns("Loop", "Service", "Failed")}
				items={rows}
				id={(row) => row.key}
			/>
			<p className={css.dim}>Passes of the loops that run in this process, since it started.</p>
		</>
	);
}

function columns(name: string, of: string, failed: string): Column<Row>[] {
	const seconds = (value: number | undefined) => (value === undefined ? "" : `${(value * 1_000).toPrecision(3)} ms`);
	return [
		{ key: "name", head: name, width: "minmax(10rem, 2fr)", narrow: "line", cell: (row) => row.name },
		{ key: "of", head: of, width: "7rem", narrow: { width: "minmax(0, 1fr)" }, cell: (row) => row.of },
		{
			key: "count",
			head: "Count",
			width: "6rem",
			narrow: { width: "4rem" },
			isNumber: true,
			cell: (row) => row.count.toLocaleString("en"),
		},
		{
			key: "p50",
			head: "p50",
			width: "6rem",
			narrow: { width: "5rem" },
			isNumber: true,
			cell: (row) => seconds(row.p50),
		},
		{
			key: "p99",
			head: "p99",
			width: "6rem",
			narrow: { width: "5rem" },
			isNumber: true,
			cell: (row) => seconds(row.p99),
		},
		{ key: "failed", head: failed, width: "7rem", narrow: "hide", isNumber: true, cell: (row) => row.failed },
	];
}
