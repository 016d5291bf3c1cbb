/** One agent: what will run, what changes? The editor, its versions, a trial. */
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense } from "react";
import { later } from "../../app/later";
import { Act } from "../../parts/act";
import { Pane } from "../../parts/pane";
import css from "./agents.module.css";
import { ask, client } from "../../api/client";
import { useQueryClient } from "@tanstack/react-query";
import { type AgentView, keys, type Pause, useAgent, usePauses, useVersions } from "./data";
import { type Draft, declared, useDraft } from "./draft";
import { Editor } from "./editor-pane";
import { Changes } from "./difference";
import { writeSpec } from "./form/document";
import { PublishAct } from "./publish";
import { RemoveAct } from "./remove";
import { Conflict } from "./conflict";
import { Versions } from "./versions";

const Trial = lazy(later(() => import("./trial").then(({ Trial: component }) => ({ default: component }))));

export function AgentPage(): ReactNode {
	const { tenant, agent: name } = useParams({ from: "/t/$tenant/agents/$agent" });
	const agent = useAgent(tenant, name);
	return (
		<Pane query={agent} rows={10}>
			{(view) => <Known key={`${tenant}/${name}`} tenant={tenant} view={view} />}
		</Pane>
	);
}

function Known({ tenant, view }: { tenant: string; view: AgentView }): ReactNode {
	const { tab } = useSearch({ from: "/t/$tenant/agents/$agent" });
	const name = view.metadata.name;
	const draft = useDraft(view);
	const versions = useVersions(tenant, name);
	const pause = usePauses(tenant).get(name);
	const live = versions.data?.find((version) => version.current);
	return (
		<>
			<Head tenant={tenant} view={view} pause={pause} draft={draft} liveSpec={live?.spec} />
			<nav aria-label={`Parts of ${name}`}>
				<ul className={css.tabs}>
					<Tab name="Editor" current={tab} />
					<Tab name="Versions" tab="versions" current={tab} />
					<Tab name="Try it" tab="try" current={tab} />
				</ul>
			</nav>
			{draft.theirs && <Conflict draft={draft} theirs={draft.theirs} />}
			{tab === "versions" ? (
				<Pane query={versions} rows={6} isEmpty={(all) => all.length === 0} empty={<NoVersions name={name} />}>
					{(all) => <Versions tenant={tenant} view={view} versions={all} />}
				</Pane>
			) : tab === "try" ? (
				<Suspense>
					<Trial tenant={tenant} view={view} isChanged={draft.isChanged} />
				</Suspense>
			) : (
				<Editor view={view} draft={draft} liveSpec={live?.spec} />
			)}
		</>
	);
}

/** Else a tab counts as current beside the one that adds to its search part. */
const EXACT = { exact: true } as const;

function Tab({ name, tab, current }: { name: string; tab?: "versions" | "try"; current: string | undefined }): ReactNode {
	return (
		<li>
			<Link
				to="."
				activeOptions={EXACT}
				search={(old) => {
					const { tab: _, version: _version, diff: _diff, ...rest } = old as Record<string, unknown>;
					return tab ? { ...rest, tab } : rest;
				}}
				aria-current={current === tab ? "page" : undefined}
			>
				{name}
			</Link>
		</li>
	);
}

function NoVersions({ name }: { name: string }): ReactNode {
	return (
		<>
			{name} was never published: nothing runs. Publish the draft, or: <code>mesh apply -f {name}.yaml</code>
		</>
	);
}

interface HeadProps {
	readonly tenant: string;
	readonly view: AgentView;
	readonly pause: Pause | undefined;
	readonly draft: Draft;
	readonly liveSpec: unknown;
}

function Head({ tenant, view, pause, draft, liveSpec }: HeadProps): ReactNode {
	const name = view.metadata.name;
	const published = view.status.published;
	const before = liveSpec === undefined ? "" : writeSpec(liveSpec);
	const after = writeSpec((draft.value as { spec?: unknown } | undefined)?.spec ?? declared(view).spec);
	return (
		<>
			<div className={css.bar}>
				<h1>
					<Link to="/t/$tenant/agents" params={{ tenant }} aria-label="All agents">
						Agents
					</Link>{" "}
					/ {name}
				</h1>
				<span>{published ? `v${published.version} live` : <span className={css.waits}>never published</span>}</span>
				{(view.status.draft || draft.isChanged) && published && (
					<span className={css.draft}>
						draft <Changes before={before} after={after} />
					</span>
				)}
				{pause && <span className={css.waits}>paused: {pause.reason ?? `by ${pause.by}`}</span>}
				<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ agent: name }}>
					invocations
				</Link>
				<span className={css.spring} />
				<span className={css.acts}>
					<SaveAct draft={draft} />
					<PublishAct tenant={tenant} view={view} draft={draft} liveSpec={liveSpec} />
					<PauseAct tenant={tenant} name={name} isPaused={pause !== undefined} />
					<RemoveAct tenant={tenant} view={view} />
				</span>
			</div>
			{draft.isBehind && !draft.theirs && (
				<p className={css.notice} role="status">
					Somebody else saved {name} meanwhile. Saving will show theirs beside yours.
				</p>
			)}
		</>
	);
}

function SaveAct({ draft }: { draft: Draft }): ReactNode {
	if (!draft.isChanged) return null;
	const barred = draft.marks.length > 0 ? "something is wrong in the draft: see the marks" : undefined;
	return (
		<>
			<Act
				label="Discard"
				least="developer"
				confirm="What you changed since the last save is given up."
				yes="Discard the changes"
				run={async () => draft.discard()}
			/>
			<Act label="Save draft" least="developer" barred={barred} run={() => draft.save()} />
		</>
	);
}

function PauseAct({ tenant, name, isPaused }: { tenant: string; name: string; isPaused: boolean }): ReactNode {
	const queries = useQueryClient();
	const path = { agent: name };
	const run = async () => {
		if (isPaused) await ask(client.POST("/api/v1/agents/{agent}/resume", { params: { path }, body: { reason: null } }));
		else await ask(client.POST("/api/v1/agents/{agent}/pause", { params: { path }, body: { reason: null } }));
		await queries.invalidateQueries({ queryKey: keys.pauses(tenant) });
	};
	return (
		<Act
			label={isPaused ? "Resume" : "Pause"}
			least="operator"
			command={`mesh ${isPaused ? "resume" : "pause"} agent ${name}`}
			run={run}
		/>
	);
}

