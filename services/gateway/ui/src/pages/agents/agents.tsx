/** Which agents are unwell, and why? */
import { TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useDeferredValue, useMemo, useRef } from "react";
import { ask, client } from "../../api/client";
import { useKey } from "../../app/keys";
import { span } from "../../app/time";
import { useTopic } from "../../live/live";
import { type Column, Grid } from "../../parts/grid";
import { Empty } from "../../parts/empty";
import { Pane } from "../../parts/pane";
import { useRowKeys } from "../../parts/rows";
import { useBrain } from "../nodes/data";
import css from "./agents.module.css";
import { CreateAct } from "./create";
import { keys, useAgents, usePauses } from "./data";
import { AgentMark } from "./mark";
import type { AgentsSearch } from "./search";
import { type Facts, order, replicasText, type Wellness, wellness } from "./wellness";

interface Row extends Facts {
	readonly name: string;
	readonly wellness: Wellness;
}

export function Agents(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/agents" });
	const search = useSearch({ from: "/t/$tenant/agents" });
	const navigate = useNavigate({ from: "/t/$tenant/agents" });
	const agents = useAgents(tenant);
	const rows = useRows(tenant, agents.data);
	const shown = useMemo(() => rows.filter((row) => isShown(row, search)), [rows, search]);
	const marked = useRowKeys({
		ids: shown.map(({ name }) => name),
		open: (index) => {
			const agent = shown[index]?.name;
			if (agent) void navigate({ to: "/t/$tenant/agents/$agent", params: { tenant, agent } });
		},
		reveal: (index) => {
			const id = shown[index]?.name;
			document.querySelector<HTMLElement>(`[data-row="${CSS.escape(id ?? "")}"]`)?.scrollIntoView({ block: "nearest" });
		},
	});
	return (
		<>
			<div className={css.bar}>
				<h1>Agents</h1>
				<span className={css.spring} />
				<CreateAct tenant={tenant} />
			</div>
			<Filters search={search} rows={rows} />
			<Pane
				query={agents}
				rows={8}
				isEmpty={(all) => all.length === 0}
				empty={<Empty says="No agent yet." command="mesh new agent" />}
			>
				{() =>
					shown.length === 0 ? (
						<Empty says="No agent matches." clear={() => void navigate({ search: {} })} />
					) : (
						<Grid
							label="Agents"
							columns={columns(tenant)}
							items={shown}
							id={(row) => row.name}
							selected={shown[marked.current]?.name}
						/>
					)
				}
			</Pane>
		</>
	);
}

/** Unwell ones first when the page opens; later changes move no row. */
function useRows(tenant: string, agents: ReturnType<typeof useAgents>["data"]): readonly Row[] {
	const brain = useBrain(tenant);
	const pauses = usePauses(tenant);
	const { counted, isKnown: isCounted } = useCounted(tenant);
	const places = useRef(new Map<string, number>());
	return useMemo(() => {
		const rows = (agents ?? []).map((agent): Row => {
			const name = agent.metadata.name;
			const facts: Facts = {
				agent,
				pause: pauses.get(name),
				placed: brain.data?.agents.find((one) => one.agent === name),
				drift: brain.data?.drift ?? [],
				replicas: brain.data?.replicas ?? [],
				counted: counted?.get(name),
			};
			return { ...facts, name, wellness: wellness(facts) };
		});
		const isKnown = isCounted && (brain.data !== undefined || brain.isError);
		const fresh = rows.filter(({ name }) => !places.current.has(name));
		fresh.sort((a, b) => order({ name: a.name, word: a.wellness.word }, { name: b.name, word: b.wellness.word }));
		const base = places.current.size;
		if (isKnown) fresh.forEach(({ name }, at) => places.current.set(name, base + at));
		const place = (row: Row) => places.current.get(row.name) ?? base + fresh.indexOf(row);
		return rows.sort((a, b) => place(a) - place(b));
	}, [agents, brain.data, brain.isError, pauses, counted, isCounted]);
}

type Counted = NonNullable<Facts["counted"]>;

/** What ran in the last day, by agent; a failure that is pushed is counted on top. */
function useCounted(tenant: string): { counted: ReadonlyMap<string, Counted> | undefined; isKnown: boolean } {
	const queries = useQueryClient();
	const queryKey = keys.overview(tenant);
	const readAgain = () => void queries.invalidateQueries({ queryKey });
	useTopic("invocations", {
		push: (push) => {
			const agent = (push.data as { agent?: unknown } | null)?.agent;
			const verb = push.event.replace("invocation.", "");
			if (typeof agent !== "string" || !(verb === "failed" || verb === "dead" || verb === "completed")) return;
			queries.setQueryData<Map<string, Counted>>(queryKey, (old) => {
				const known = old?.get(agent);
				return known && new Map(old).set(agent, { ...known, [verb]: known[verb] + 1 });
			});
		},
		reset: readAgain,
	});
	const overview = useQuery({
		queryKey,
		queryFn: async ({ signal }) => {
			const read = await ask(client.GET("/api/v1/overview", { signal, params: { query: { range: "24h" } } }));
			return new Map(read.agents.map((one) => [one.agent, one]));
		},
	});
	const counted = useDeferredValue(overview.data);
	return { counted, isKnown: counted !== undefined || overview.isError };
}

function isShown(row: Row, { q, show }: AgentsSearch): boolean {
	if (show === "unwell" && row.wellness.word === "well") return false;
	if (show === "draft" && !row.agent.status.draft) return false;
	if (show === "paused" && !row.pause) return false;
	if (q === undefined) return true;
	const { metadata, spec } = row.agent;
	const labels = Object.entries(metadata.labels ?? {}).map(([key, value]) => `${key}=${value}`);
	const held = [metadata.name, spec.model?.name ?? "", spec.runtime ?? "", ...labels].join(" ").toLowerCase();
	return q.toLowerCase().split(/\s+/).every((word) => held.includes(word));
}

const EXACT = { exact: true } as const;

function Filters({ search, rows }: { search: AgentsSearch; rows: readonly Row[] }): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/agents" });
	const input = useRef<HTMLInputElement>(null);
	useKey("/", "filter", () => input.current?.focus());
	const { q, show: _, ...rest } = search;
	const kept = q === undefined ? rest : { ...rest, q };
	const choices = [
		{ show: undefined, name: "all" },
		{ show: "unwell" as const, name: "unwell" },
		{ show: "draft" as const, name: "with a draft" },
		{ show: "paused" as const, name: "paused" },
	];
	const count = (show: AgentsSearch["show"]) => rows.filter((row) => isShown(row, { ...kept, ...(show ? { show } : {}) })).length;
	return (
		<div className={css.filters}>
			<ul aria-label="Filter">
				{choices.map(({ show, name }) => (
					<li key={name}>
						<Link
							to="."
							activeOptions={EXACT}
							search={show ? { ...kept, show } : kept}
							aria-current={search.show === show ? "true" : undefined}>
							{name} {count(show).toLocaleString("en")}
						</Link>
					</li>
				))}
			</ul>
			<TextInput
				ref={input}
				size="xs"
				type="search"
				aria-label="Filter by name, model or label"
				placeholder="name, model, label  /"
				value={q ?? ""}
				onChange={(event) => {
					const text = event.currentTarget.value;
					const others = search.show ? { show: search.show } : {};
					void navigate({ search: text === "" ? others : { ...others, q: text }, replace: true });
				}}
			/>
		</div>
	);
}

function columns(tenant: string): Column<Row>[] {
	return [
		{
			key: "agent",
			head: "agent",
			width: "minmax(8rem, 1.2fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: ({ name }) => (
				<Link to="/t/$tenant/agents/$agent" params={{ tenant, agent: name }} className={css.name}>
					{name}
				</Link>
			),
		},
		{
			key: "version",
			head: "version",
			width: "7rem",
			narrow: { width: "auto" },
			cell: ({ agent: { status } }) => (
				<>
					{status.published ? `v${status.published.version}` : "–"}{" "}
					{status.draft && status.published && <span className={css.draft}>draft</span>}
				</>
			),
		},
		{
			key: "is",
			head: "is",
			width: "minmax(10rem, 2fr)",
			narrow: "line",
			cell: ({ wellness: { word, why } }) => (
				<>
					<AgentMark word={word} />
					{why && <span className={css.dim}> {why}</span>}
				</>
			),
		},
		{
			key: "model",
			head: "runs",
			width: "minmax(6rem, 1fr)",
			narrow: "line",
			cell: ({ agent: { spec } }) => {
				const runtime = spec.runtime ?? "llm";
				return runtime === "llm" ? <span>{spec.model?.name ?? "gpt-4"}</span> : <span>{runtime}</span>;
			},
		},
		...counts(tenant),
	];
}

function counts(tenant: string): Column<Row>[] {
	return [
		{
			key: "replicas",
			head: "replicas",
			width: "5rem",
			narrow: "hide",
			isNumber: true,
			cell: ({ name, placed }) =>
				placed && (
					<Link to="/t/$tenant/reconciler" params={{ tenant }} search={{ agent: name }}>
						{replicasText(placed)}
					</Link>
				),
		},
		{
			key: "open",
			head: "open",
			width: "4rem",
			narrow: "hide",
			isNumber: true,
			cell: ({ name, counted }) => <Open tenant={tenant} agent={name} counted={counted} />,
		},
		{
			key: "failed",
			head: "failed 24 h",
			width: "5.5rem",
			narrow: "hide",
			isNumber: true,
			cell: ({ name, counted }) => <Failed tenant={tenant} agent={name} counted={counted} />,
		},
		{
			key: "p99",
			head: "p99",
			width: "4.5rem",
			narrow: "hide",
			isNumber: true,
			cell: ({ counted }) => (typeof counted?.p99_ms === "number" ? span(counted.p99_ms) : ""),
		},
	];
}

interface CountProps {
	readonly tenant: string;
	readonly agent: string;
	readonly counted: Facts["counted"];
}

function Open({ tenant, agent, counted }: CountProps): ReactNode {
	const count = counted ? counted.queued + counted.running + counted.waiting : 0;
	if (count === 0) return <span className={css.dim}>0</span>;
	return (
		<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ agent }}>
			{count.toLocaleString("en")}
		</Link>
	);
}

function Failed({ tenant, agent, counted }: CountProps): ReactNode {
	const count = counted ? counted.failed + counted.dead : 0;
	if (count === 0) return <span className={css.dim}>0</span>;
	return (
		<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ agent, state: "failed" }} className={css.unwell}>
			{count.toLocaleString("en")}
		</Link>
	);
}
