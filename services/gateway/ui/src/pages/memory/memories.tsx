/** Memories, newest first, or the nearest to a question with what each score is made of; one is open beside them. */
import { Select, TextInput } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { Time } from "../../app/time";
import { Empty } from "../../parts/empty";
import { type Column, Grid } from "../../parts/grid";
import { useFilterKey } from "../../parts/filter-key";
import { Pane } from "../../parts/pane";
import { Pill } from "../../parts/pill";
import { filtersOf, useAgentNames, useHits, useMemories } from "./data";
import { ForgetByFilter } from "./forget";
import css from "./memory.module.css";
import { OpenMemory } from "./open";
import { Remember } from "./remember";
import { type Hit, type Memory, parts } from "./score";
import { type MemorySearch, types } from "./search";

export function Memories({ tenant, search }: { tenant: string; search: MemorySearch }): ReactNode {
	const isSearch = search.q !== undefined && search.agent !== undefined;
	return (
		<>
			<Filters tenant={tenant} search={search} />
			<div className={search.memory === undefined ? undefined : css.split}>
				<div>
					{search.q !== undefined && search.agent === undefined && (
						<p role="status">Choose an agent above: a search shows what that agent would be given.</p>
					)}
					{isSearch ? <Hits tenant={tenant} search={search} /> : <List tenant={tenant} search={search} />}
				</div>
				{search.memory !== undefined && <OpenMemory tenant={tenant} id={search.memory} />}
			</div>
		</>
	);
}

/** Changes of the search part; `undefined` takes something out. */
export function useChange() {
	const navigate = useNavigate({ from: "/t/$tenant/memory" });
	return (change: { [K in keyof MemorySearch]?: MemorySearch[K] | undefined }, replace = true) =>
		void navigate({
			search: (old) =>
				Object.fromEntries(
					Object.entries({ ...old, ...change }).filter(([, value]) => value !== undefined && value !== ""),
				) as MemorySearch,
			replace,
			resetScroll: false,
		});
}

function Filters({ tenant, search }: { tenant: string; search: MemorySearch }): ReactNode {
	const change = useChange();
	const agents = useAgentNames(tenant);
	const [q, setQ] = useState(search.q ?? "");
	const field = useFilterKey();
	const names = useMemo(
		() => [...new Set([...(agents.data ?? []), ...(search.agent ? [search.agent] : [])])].sort(),
		[agents.data, search.agent],
	);
	const isFiltered = Object.keys(filtersOf(search)).length > 0 || search.q !== undefined;
	return (
		<form
			role="search"
			className={css.filters}
			onSubmit={(event) => {
				event.preventDefault();
				change({ q: q.trim() || undefined }, false);
			}}
		>
			<TextInput
				type="search"
				label="Question"
				placeholder="what does Ann drink?"
				ref={field}
				className={css.question}
				value={q}
				onChange={(event) => setQ(event.currentTarget.value)}
			/>
			<Select
				label="Agent"
				placeholder="all"
				data={names}
				value={search.agent ?? null}
				onChange={(value) => change({ agent: value ?? undefined })}
				searchable
				clearable
				clearButtonProps={{ "aria-label": "All agents" }}
			/>
			<Select
				label="Type"
				placeholder="all"
				data={[...types]}
				value={search.type ?? null}
				onChange={(value) => change({ type: types.find((type) => type === value) })}
				clearable
				clearButtonProps={{ "aria-label": "All types" }}
			/>
			{(["session", "user", "tag"] as const).map((name) => (
				<TextInput
					key={`${name}-${search[name] ?? ""}`}
					label={name.charAt(0).toUpperCase() + name.slice(1)}
					placeholder="any"
					defaultValue={search[name] ?? ""}
					onBlur={(event) => change({ [name]: event.currentTarget.value.trim() || undefined })}
					onKeyDown={(event) => {
						if (event.key !== "Enter") return;
						event.preventDefault();
						change({ [name]: event.currentTarget.value.trim() || undefined });
					}}
				/>
			))}
			<button type="submit" className={css.button}>
				Search
			</button>
			{isFiltered && (
				<Link to="." search={{}} onClick={() => setQ("")}>
					clear
				</Link>
			)}
			<span className={css.acts}>
				<Remember tenant={tenant} agents={names} />
				<ForgetByFilter tenant={tenant} search={search} />
			</span>
		</form>
	);
}

function List({ tenant, search }: { tenant: string; search: MemorySearch }): ReactNode {
	const change = useChange();
	const { memories: pages, pending } = useMemories(tenant, search);
	const items = useMemo(() => pages.data?.pages.flatMap((page) => page.items) ?? [], [pages.data]);
	const isFiltered = Object.keys(filtersOf(search)).length > 0;
	return (
		<Pane
			query={pages}
			rows={8}
			isEmpty={() => items.length === 0}
			empty={
				<Empty
					says={isFiltered ? "No memory matches." : "No memory yet. Agents store what they are told; so can you:"}
					command='mesh memories remember sofia "Ann prefers tea"'
					clear={
						isFiltered
							? () => change({ agent: undefined, type: undefined, session: undefined, user: undefined, tag: undefined })
							: undefined
					}
				/>
			}
		>
			{() => (
				<>
					<Pill count={pending.count} show={pending.show} />
					<Grid
						hasKeys
						label="Memories, newest first"
						columns={COLUMNS}
						items={items}
						id={(memory) => memory.id}
						selected={search.memory}
						more={() => pages.hasNextPage && !pages.isFetching && void pages.fetchNextPage()}
					/>
				</>
			)}
		</Pane>
	);
}

function Hits({ tenant, search }: { tenant: string; search: MemorySearch }): ReactNode {
	const change = useChange();
	const hits = useHits(tenant, search);
	return (
		<Pane
			query={hits}
			rows={8}
			isEmpty={(data) => data.items.length === 0}
			empty={<Empty says={`${search.agent} remembers nothing of it.`} clear={() => change({ q: undefined })} />}
		>
			{(data) => (
				<>
					{data.degraded && <p className={css.trouble}>△ only words were searched: {data.degraded}</p>}
					{search.session === undefined && search.user === undefined && (
						<p className={css.dim}>
							What {search.agent} keeps of one session or user is searched when that is named above.
						</p>
					)}
					<Grid
						hasKeys
						label="Memories nearest to the question, best first"
						columns={HIT_COLUMNS}
						items={data.items}
						id={(hit) => hit.memory.id}
						selected={search.memory}
					/>
				</>
			)}
		</Pane>
	);
}

function Content({ memory }: { memory: Memory }): ReactNode {
	return (
		<>
			<Link
				to="."
				search={(old) => ({ ...old, memory: memory.id })}
				resetScroll={false}
				className={css.content}
				title="Open it with its history"
			>
				{memory.content}
			</Link>
			<span className={css.dim}>
				{memory.tags.map((tag) => `#${tag} `)}
				{memory.superseded_by && "replaced "}
				{!memory.embedded && "not embedded yet "}
				{(memory.seen ?? 1) > 1 && `told ${memory.seen} times`}
			</span>
		</>
	);
}

function whose(memory: Memory): string {
	const of = memory.session ? ` ${memory.session}` : memory.user ? ` ${memory.user}` : "";
	return `${memory.type}, of ${memory.scope ?? "agent"}${of}`;
}

const OF: Column<Memory>[] = [
	{
		key: "content",
		head: "Memory",
		width: "minmax(12rem, 3fr)",
		cell: (memory) => <Content memory={memory} />,
	},
	{
		key: "agent",
		head: "Agent",
		width: "minmax(5rem, .6fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (memory) => memory.agent,
	},
	{ key: "type", head: "Type, scope", width: "minmax(7rem, .8fr)", narrow: { width: "minmax(0, 1fr)" }, cell: whose },
];

const COLUMNS: readonly Column<Memory>[] = [
	...OF,
	{
		key: "importance",
		head: "Importance",
		width: "5.5rem",
		narrow: "hide",
		isNumber: true,
		cell: (memory) => memory.importance.toFixed(2),
	},
	{
		key: "at",
		head: "Stored",
		width: "9rem",
		narrow: { width: "8rem" },
		isNumber: true,
		cell: (memory) => <Time at={memory.created_at} />,
	},
];

const HIT_COLUMNS: readonly Column<Hit>[] = [
	{
		key: "score",
		head: "Score",
		width: "4rem",
		narrow: { width: "4rem" },
		isNumber: true,
		cell: (hit) => <strong>{hit.score.toFixed(3)}</strong>,
	},
	{
		key: "parts",
		head: "Made of",
		width: "minmax(11rem, 1fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (hit) => <Parts hit={hit} />,
	},
	...OF.map((column) => ({ ...column, cell: (hit: Hit) => column.cell(hit.memory), narrow: "line" as const })),
];

export function Parts({ hit }: { hit: { scores: Hit["scores"] } }): ReactNode {
	return (
		<span className={css.parts}>
			{parts(hit.scores).map((part) => (
				<span key={part.name} className={css.part}>
					<span className={css.dim}>{part.name}</span> {part.value.toFixed(3)}
					{part.rank !== undefined && <span className={css.dim}> place {part.rank}</span>}
					<span className={css.bar} aria-hidden="true">
						<span style={{ width: `${Math.max(0, Math.min(1, part.value)) * 100}%` }} />
					</span>
				</span>
			))}
		</span>
	);
}
