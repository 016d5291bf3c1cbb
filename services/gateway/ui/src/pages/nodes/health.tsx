/** What a node said of its machine: the last reports as lines, the newest as numbers. */
import type { ReactNode } from "react";
import { span, Time } from "../../app/time";
import { Facts } from "../../parts/section";
import { Spark } from "../../parts/spark";
import type { NodeHealth } from "./data";
import css from "./nodes.module.css";
import type { NodeRecord } from "./state";

type Report = NodeHealth["reports"][number];

/** Share of the memory that is in use, in percent. */
export function memoryPercent(report: Report): number {
	if (report.memory_total_mb === 0) return 0;
	return 100 * (1 - report.memory_available_mb / report.memory_total_mb);
}

function ofReports(node: NodeRecord, reports: readonly Report[] | undefined): readonly Report[] {
	if (reports !== undefined && reports.length > 0) return reports;
	return node.health ? [node.health] : [];
}

export function HealthSpark({
	node,
	reports,
}: {
	node: NodeRecord;
	reports: readonly Report[] | undefined;
}): ReactNode {
	const known = ofReports(node, reports);
	const last = known.at(-1);
	if (last === undefined) return <span className={css.dim}>no report</span>;
	const memory = known.map(memoryPercent);
	return (
		<span className={css.sparks}>
			<Spark
				label={`CPU ${words(known.map((report) => report.cpu_percent))}`}
				values={known.map((report) => report.cpu_percent)}
				max={100}
			/>
			<Spark label={`memory ${words(memory)}`} values={memory} max={100} />
		</span>
	);
}

function words(values: readonly number[]): string {
	const last = values.at(-1) ?? 0;
	return `${last.toFixed(0)} %, ${values.length} reports between ${Math.min(...values).toFixed(0)} and ${Math.max(...values).toFixed(0)} %`;
}

export function Health({ node, reports }: { node: NodeRecord; reports: readonly Report[] | undefined }): ReactNode {
	const known = ofReports(node, reports);
	const last = known.at(-1);
	if (last === undefined) return <p className={css.dim}>It has made no health report yet.</p>;
	const load = known.map((report) => report.load_average[0] ?? 0);
	return (
		<>
			<div className={css.meters}>
				<Meter
					name="CPU"
					value={`${last.cpu_percent.toFixed(0)} %`}
					values={known.map((report) => report.cpu_percent)}
					max={100}
				/>
				<Meter
					name="Memory in use"
					value={`${memoryPercent(last).toFixed(0)} %`}
					values={known.map(memoryPercent)}
					max={100}
				/>
				<Meter
					name="Load"
					value={(load.at(-1) ?? 0).toFixed(2)}
					values={load}
					max={Math.max(last.cpu_count, ...load)}
				/>
			</div>
			<Facts
				of={[
					["Host", last.hostname],
					["System", `${last.platform} ${last.platform_release}`],
					["Program", `mesh ${last.agent_runtimes_version}`],
					["Python", last.python_version],
					["Cores", last.cpu_count],
					[
						"Memory",
						`${last.memory_available_mb.toLocaleString("en")} of ${last.memory_total_mb.toLocaleString("en")} MB free`,
					],
					["Up for", span(last.uptime_seconds * 1_000)],
					["Reported", <Time key="at" at={last.reported_at} />],
				]}
			/>
		</>
	);
}

function Meter({
	name,
	value,
	values,
	max,
}: {
	name: string;
	value: string;
	values: readonly number[];
	max: number;
}): ReactNode {
	return (
		<div className={css.meter}>
			<p className={css.dim}>{name}</p>
			<p>
				<strong>{value}</strong>
			</p>
			<Spark label={`${name}: the last ${values.length} reports`} values={values} max={max} width={150} height={32} />
		</div>
	);
}
