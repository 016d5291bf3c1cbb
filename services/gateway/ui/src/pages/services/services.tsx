/** What is slow, what fails, what is not there: services on the bus, routes at the edge, and the loops behind them. */
import { Button, Tabs } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useRef } from "react";
import { ask, askText, client } from "../../api/client";
import { Time } from "../../app/time";
import { type Column, Grid } from "../../parts/grid";
import { Empty } from "../../parts/empty";
import { Pane } from "../../parts/pane";
import { Section } from "../../parts/section";
import { useBrain } from "../nodes/data";
import { type Endpoint, type Reading, type ServiceRow, serviceRows } from "./figures";
import { Loops, Routes } from "./measured";
import { samples, total } from "./metrics";
import type { ServicesSearch } from "./search";
import css from "./services.module.css";

export function Services(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/services" });
	const { tab = "services", service } = useSearch({ from: "/t/$tenant/services" });
	const navigate = useNavigate({ from: "/t/$tenant/services" });
	const queries = useQueryClient();
	const readings = useReadings(tenant);
	const metrics = useMetrics(tenant);
	const again = () => {
		void queries.invalidateQueries({ queryKey: [tenant, "services"] });
		void queries.invalidateQueries({ queryKey: [tenant, "brain"] });
	};
	const aside = (
		<>
			<Button size="compact-sm" variant="default" loading={readings.isFetching || metrics.isFetching} onClick={again}>
				Read again
			</Button>
			{readings.data && (
				<span className={css.dim}>
					As of <Time at={new Date(readings.data.now.at).toISOString()} />
				</span>
			)}
		</>
	);
	return (
		<Section title="Services" level={1} aside={aside}>
			<Queues tenant={tenant} text={metrics.data} />
			<Tabs
				value={tab}
				onChange={(value) => void navigate({ search: (value === "services" ? {} : { tab: value }) as ServicesSearch })}
				keepMounted={false}
			>
				<Tabs.List>
					<Tabs.Tab value="services">Services</Tabs.Tab>
					<Tabs.Tab value="routes">Routes</Tabs.Tab>
					<Tabs.Tab value="loops">Loops</Tabs.Tab>
				</Tabs.List>
				<Tabs.Panel value="services" pt="sm">
					<Pane query={readings} rows={8}>
						{(data) => <OnBus tenant={tenant} readings={data} open={service} />}
					</Pane>
				</Tabs.Panel>
				<Tabs.Panel value="routes" pt="sm">
					<Pane query={metrics} rows={8}>
						{(text) => <Routes all={samples(text)} />}
					</Pane>
				</Tabs.Panel>
				<Tabs.Panel value="loops" pt="sm">
					<Pane query={metrics} rows={8}>
						{(text) => <Loops all={samples(text)} />}
					</Pane>
				</Tabs.Panel>
			</Tabs>
		</Section>
	);
}

interface Readings {
	readonly now: Reading;
	readonly before: Reading | undefined;
}

/** Read when asked, never by a timer; the reading before is kept, so that a rate is of the time between. */
function useReadings(tenant: string) {
	const last = useRef<Reading>(undefined);
	return useQuery({
		queryKey: [tenant, "services", "stats"],
		queryFn: async ({ signal }): Promise<Readings> => {
			const page = await ask(client.GET("/api/v1/services", { signal }));
			const before = last.current;
			last.current = { at: Date.now(), services: page.items };
			return { now: last.current, before };
		},
	});
}

function useMetrics(tenant: string) {
	return useQuery({
		queryKey: [tenant, "services", "metrics"],
		queryFn: ({ signal }) => askText("/metrics", { signal }),
	});
}

/** What waits, where; a number leads to what it counts. */
function Queues({ tenant, text }: { tenant: string; text: string | undefined }): ReactNode {
	const counts = useQuery({
		queryKey: [tenant, "services", "queued"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/invocations/counts", { signal })),
	});
	const all = text === undefined ? [] : samples(text);
	const gauge = (name: string) =>
		all.some((sample) => sample.name === name) ? total(all, name, () => true) : undefined;
	const lags: [string, number | undefined][] = [
		["commands waiting for a lane", gauge("mesh_commands_waiting")],
		["batches not yet relayed", gauge("mesh_relay_lag")],
		["model calls waiting for their turn", gauge("mesh_model_waiting")],
		["live connections", gauge("mesh_live_connections")],
	];
	return (
		<ul className={css.queues} aria-label="Queues">
			{counts.data && (
				<>
					<li>
						<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ state: "queued" }}>
							<strong>{counts.data.queued.toLocaleString("en")}</strong> queued
						</Link>
					</li>
					<li>
						<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ state: "running" }}>
							<strong>{counts.data.running.toLocaleString("en")}</strong> running
						</Link>
					</li>
				</>
			)}
			{lags.map(
				([name, value]) =>
					value !== undefined && (
						<li key={name}>
							<strong>{value.toLocaleString("en")}</strong> {name}
						</li>
					),
			)}
		</ul>
	);
}

function OnBus({
	tenant,
	readings,
	open,
}: {
	tenant: string;
	readings: Readings;
	open: string | undefined;
}): ReactNode {
	const brain = useBrain(tenant);
	const { now, before } = readings;
	const rows = serviceRows(now, before, brain.data?.services ?? []);
	const shown = rows.find((row) => row.name === open);
	if (rows.length === 0) return <Empty says="No service answers on the bus." command="mesh doctor" />;
	return (
		<>
			<Grid hasKeys label="Services" columns={COLUMNS} items={rows} id={(row) => row.name} selected={open} />
			<p className={css.dim}>
				Rates are{" "}
				{before ? (
					<>
						since <Time at={new Date(before.at).toISOString()} />
					</>
				) : (
					"since each process started"
				)}
				; times are means over all requests since then.
			</p>
			{shown && (
				<Section title={`Endpoints of ${shown.name}, slowest first`}>
					<Instances row={shown} />
					<Grid
						label={`Endpoints of ${shown.name}`}
						columns={ENDPOINTS}
						items={shown.endpoints.filter((one) => one.requests > 0)}
						id={(one) => one.name}
					/>
					<Unasked of={shown.endpoints.filter((one) => one.requests === 0)} />
				</Section>
			)}
		</>
	);
}

function ms(value: number): string {
	return `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
}

const COLUMNS: readonly Column<ServiceRow>[] = [
	{
		key: "name",
		head: "Service",
		width: "minmax(7rem, 1fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (row) => (
			<Link to="." search={{ service: row.name }} resetScroll={false}>
				{row.name}
			</Link>
		),
	},
	{
		key: "state",
		head: "State",
		width: "minmax(9rem, 1.2fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (row) => <State row={row} />,
	},
	{
		key: "instances",
		head: "Processes",
		width: "5rem",
		narrow: "hide",
		isNumber: true,
		cell: (row) => row.instances.length,
	},
	{
		key: "rate",
		head: "Per second",
		width: "6rem",
		isNumber: true,
		narrow: "hide",
		cell: (row) => row.per_second.toFixed(2),
	},
	{
		key: "errors",
		head: "Errors",
		width: "8rem",
		isNumber: true,
		narrow: "line",
		cell: (row) => `${row.errors.toLocaleString("en")} of ${row.requests.toLocaleString("en")}`,
	},
	{ key: "average", head: "Mean", width: "5rem", isNumber: true, narrow: "hide", cell: (row) => ms(row.average_ms) },
	{
		key: "slowest",
		head: "Slowest endpoint",
		width: "minmax(9rem, 1.4fr)",
		cell: (row) => (row.slowest ? `${row.slowest.name}, ${ms(row.slowest.average_ms)}` : "none asked yet"),
	},
];

/** A word and a shape, not only a colour. */
function State({ row }: { row: ServiceRow }): ReactNode {
	const is = row.isDegraded ? "degraded" : "answers";
	return (
		<>
			<span className={row.isDegraded ? css.degraded : css.well}>
				<span aria-hidden="true">{row.isDegraded ? "△" : "●"}</span> {is}
			</span>{" "}
			{row.since && (
				<span className={css.dim}>
					since <Time at={row.since} />
				</span>
			)}
		</>
	);
}

function Unasked({ of }: { of: readonly Endpoint[] }): ReactNode {
	if (of.length === 0) return null;
	return (
		<details className={css.unasked}>
			<summary>{of.length} more that nobody asked</summary>
			{of.map((one) => one.name).join(", ")}
		</details>
	);
}

function Instances({ row }: { row: ServiceRow }): ReactNode {
	return (
		<ul className={css.instances}>
			{row.instances.map((view) => (
				<li key={view.instance}>
					<code>{view.instance}</code> version {view.version}, started <Time at={view.started_at} />,{" "}
					{view.requests.toLocaleString("en")} requests
				</li>
			))}
		</ul>
	);
}

const ENDPOINTS: readonly Column<Endpoint>[] = [
	{
		key: "name",
		head: "Endpoint",
		width: "minmax(9rem, 1fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (one) => one.name,
	},
	{
		key: "requests",
		head: "Requests",
		width: "6rem",
		narrow: { width: "5rem" },
		isNumber: true,
		cell: (one) => one.requests.toLocaleString("en"),
	},
	{
		key: "average",
		head: "Mean",
		width: "6rem",
		narrow: { width: "5rem" },
		isNumber: true,
		cell: (one) => ms(one.average_ms),
	},
	{
		key: "p99",
		head: "p99",
		width: "6rem",
		narrow: "hide",
		isNumber: true,
		cell: (one) => (one.p99_ms === undefined ? "" : ms(one.p99_ms)),
	},
	{
		key: "errors",
		head: "Errors",
		width: "minmax(6rem, 1fr)",
		cell: (one) => (one.errors === 0 ? "none" : `${one.errors}, the last ${one.last_error}`),
	},
];
