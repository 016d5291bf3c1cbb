/** The time-travel debugger: what did it do, and what if? */
import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { useKey } from "../../app/keys";
import { Empty } from "../../parts/empty";
import { Pane } from "../../parts/pane";
import { Compare } from "./compare";
import { historyOf, invocationOf, stepsOf, useFollow, useOpened } from "./data";
import { Detail } from "./detail";
import { ForkDialog } from "./fork";
import { Head } from "./head";
import css from "./invocation.module.css";
import { Lineage } from "./lineage";
import { rowsOf, type StepRow } from "./rows";
import { useRunning } from "./running";
import type { DebuggerSearch } from "./search";
import { firstShown, type Invocation, type Moment, newest, nextFailure, notesOf, type Step, withSource } from "./steps";
import type { Streams } from "./stream";
import { Toolbar } from "./toolbar";
import { Waterfall } from "./waterfall";

/** Durations of what runs grow this often; nothing is asked of the server. */
const TICK_MS = 1_000;
const NO_HISTORY: readonly Moment[] = [];
const NO_STEPS: readonly Step[] = [];

export function InvocationPage(): ReactNode {
	const { tenant, id } = useParams({ from: "/t/$tenant/invocations/$id" });
	return <One key={`${tenant}/${id}`} tenant={tenant} id={id} />;
}

function One({ tenant, id }: { tenant: string; id: string }): ReactNode {
	const invocation = useQuery(invocationOf(tenant, id));
	const begin = useRef<number | undefined>(undefined);
	const isRead = invocation.data !== undefined;
	if (begin.current === undefined && invocation.data && !invocation.data.ended_at) begin.current = invocation.data.cursor;
	const streams = useFollow(tenant, id, begin.current);
	const steps = useQuery({ ...stepsOf(tenant, id), enabled: isRead });
	const history = useQuery({ ...historyOf(tenant, id), enabled: isRead });
	const source = invocation.data?.forked_from ?? undefined;
	const before = useQuery({ ...historyOf(tenant, source?.invocation ?? ""), enabled: source !== undefined });
	const wasWhole = useRef(false);
	if (steps.data && !steps.isFetching) wasWhole.current = true;
	return (
		<>
			{!invocation.data && <h1 className="visually-hidden">Invocation {id}</h1>}
			<Pane query={invocation} rows={3}>
				{(one) => (
					<Debugger
						tenant={tenant}
						invocation={one}
						read={steps}
						isWhole={wasWhole.current}
						own={history.data ?? NO_HISTORY}
						source={before.data}
						hasNoHistory={history.isError}
						streams={streams}
					/>
				)}
			</Pane>
		</>
	);
}

interface DebuggerProps {
	readonly tenant: string;
	readonly invocation: Invocation;
	readonly read: UseQueryResult<readonly Step[]>;
	/** All steps are read: which one to begin with is known. */
	readonly isWhole: boolean;
	readonly own: readonly Moment[];
	/** Of what it was forked from. */
	readonly source: readonly Moment[] | undefined;
	readonly hasNoHistory: boolean;
	readonly streams: Streams;
}

function useNow(isOpen: boolean): number {
	const [now, setNow] = useState(Date.now);
	useEffect(() => {
		if (!isOpen) return;
		const timer = setInterval(() => document.visibilityState === "visible" && setNow(Date.now()), TICK_MS);
		return () => clearInterval(timer);
	}, [isOpen]);
	return now;
}

function Debugger(props: DebuggerProps): ReactNode {
	const { tenant, invocation, read, own, source, streams } = props;
	const { id, forked_from } = invocation;
	const history = useMemo(() => withSource(own, source, forked_from?.step ?? 0), [own, source, forked_from]);
	const search = useSearch({ from: "/t/$tenant/invocations/$id" });
	const navigate = useNavigate({ from: "/t/$tenant/invocations/$id" });
	const change = (next: (search: DebuggerSearch) => DebuggerSearch) => void navigate({ search: next, replace: true });
	const steps = useRunning(streams, read.data ?? NO_STEPS);
	const isOpen = !invocation.ended_at;
	const now = useNow(isOpen);
	const [isHeld, setHeld] = useState(false);
	const isFollowing = isOpen && search.step === undefined && !isHeld;
	const begin = isOpen && !waitsForPerson(invocation) ? newest(steps) : firstShown(invocation, steps);
	const shown = search.step ?? (props.isWhole ? begin : undefined);
	const follow = () => {
		setHeld(false);
		change(({ step: _, of: __, ...rest }) => rest);
	};
	useKey("l", "follow what comes", () => (isOpen ? follow() : false));
	// Of a child's step: at the step that called the child.
	const caller = search.of === undefined ? undefined : [...childrenOf(history)].find(([, child]) => child === search.of);
	const forkAt = search.of === undefined ? shown : caller?.[0];
	return (
		<div className={css.page}>
			<Head tenant={tenant} invocation={invocation} steps={steps} shown={forkAt} now={now} />
			<Lineage tenant={tenant} invocation={invocation} />
			{props.hasNoHistory && <p className={css.dim}>Who held it and who decided could not be read.</p>}
			{search.compare ? (
				<Compare key={search.compare} tenant={tenant} left={search.compare} right={id} />
			) : (
				<>
					<Following isOpen={isOpen} isFollowing={isFollowing} follow={follow} />
					<Pane
						query={read}
						rows={10}
						isEmpty={() => steps.length === 0}
						empty={
							<Empty
								says={isOpen ? "No step yet: it has not been started." : "It ended without a step."}
								command={`mesh steps ${id}`}
							/>
						}
					>
						{() => (
							<Steps
								{...props}
								steps={steps}
								history={history}
								shown={shown}
								now={now}
								isFollowing={isFollowing}
								hold={() => setHeld(true)}
								change={change}
							/>
						)}
					</Pane>
				</>
			)}
			{search.fork !== undefined && (
				<ForkDialog
					tenant={tenant}
					invocation={invocation}
					steps={steps}
					from={search.fork}
					close={() => change(({ fork: _, ...rest }) => rest)}
				/>
			)}
		</div>
	);
}

/** Then the step to decide on is shown, not the newest one. */
function waitsForPerson(invocation: Invocation): boolean {
	return invocation.waits_for?.some((item) => item.on === "approval" || item.on === "ambiguous") ?? false;
}

function Following(props: { isOpen: boolean; isFollowing: boolean; follow: () => void }): ReactNode {
	if (!props.isOpen) return null;
	return (
		<p role="status" className={css.following}>
			{props.isFollowing ? (
				"Following what comes."
			) : (
				<>
					Not following: you look at an earlier step.{" "}
					<button type="button" className={css.plain} onClick={props.follow}>
						Follow <kbd>l</kbd>
					</button>
				</>
			)}
		</p>
	);
}

interface StepsProps extends DebuggerProps {
	/** With that of the source. */
	readonly history: readonly Moment[];
	readonly steps: readonly Step[];
	readonly shown: number | undefined;
	readonly now: number;
	readonly isFollowing: boolean;
	hold(): void;
	change(next: (search: DebuggerSearch) => DebuggerSearch): void;
}

function Steps(props: StepsProps): ReactNode {
	const { tenant, invocation, steps, history, shown, now, change } = props;
	const search = useSearch({ from: "/t/$tenant/invocations/$id" });
	const children = useMemo(() => childrenOf(history), [history]);
	const [unfolded, setUnfolded] = useState<ReadonlySet<number>>(new Set());
	// The child whose step the URL names is open, also after a reload.
	const named = [...children].flatMap(([step, child]) => (child === search.of ? [step] : []));
	const open = new Set([...unfolded, ...named]);
	const opened = useOpened(tenant, new Map([...children].filter(([step]) => open.has(step))));
	const notes = useMemo(
		() => notesOf(props.own, steps, invocation.forked_from),
		[props.own, steps, invocation.forked_from],
	);
	const { kinds, find, scale } = search;
	const wanted = { scale: scale ?? "order", kinds, find, now } as const;
	// biome-ignore lint/correctness/useExhaustiveDependencies: `wanted` is made of these.
	const laid = useMemo(() => rowsOf(steps, notes, opened, wanted), [steps, notes, opened, scale, kinds, find, now]);
	const select = (row: StepRow) =>
		change(({ of: _, ...rest }) => ({ ...rest, step: row.step.number, ...(row.of ? { of: row.of } : {}) }));
	const toggle = (step: number) => {
		if (named.includes(step)) change(({ of: _, ...rest }) => ({ ...rest, step }));
		setUnfolded(toggled(open, step));
	};
	const isChild = search.of !== undefined;
	const owner = search.of ?? invocation.id;
	const selected = isChild ? `${owner}/${shown}` : `s${shown}`;
	const row = laid.rows.find((one) => one.key === selected);
	const step = row?.type === "step" ? row.step : isChild ? undefined : steps.find((one) => one.number === shown);
	useKey("n", "next failure", () => {
		const next = nextFailure(steps, isChild ? 0 : (shown ?? 0));
		if (!next) return false;
		change(({ of: _, ...rest }) => ({ ...rest, step: next.number }));
	});
	const detail = useRef<HTMLDivElement>(null);
	useKey("Enter", "read the step", (event) => {
		if (event.target instanceof HTMLElement && event.target.closest("a,button,summary,[role=tab]")) return false;
		detail.current?.focus();
	});
	return (
		<div className={css.split}>
			<div className={css.left}>
				<Toolbar search={search} change={change} shown={laid.rows.length} all={steps.length} failures={steps.some((one) => one.error)} />
				<Waterfall
					rows={laid.rows}
					scale={laid.scale}
					history={history}
					selected={selected}
					now={now}
					isFollowing={props.isFollowing}
					openable={new Map([...children.keys()].map((number) => [number, open.has(number)]))}
					select={select}
					toggle={toggle}
					scrolledUp={props.hold}
				/>
			</div>
			<div ref={detail} tabIndex={-1} className={css.right}>
				{step ? (
					<Detail
						key={`${owner}/${step.number}`}
						tenant={tenant}
						invocation={invocation}
						step={step}
						owner={owner}
						history={history}
						streams={props.streams}
						tab={search.tab ?? "wrote"}
						now={now}
						choose={(tab) => change(({ tab: _, ...rest }) => (tab === "wrote" ? rest : { ...rest, tab }))}
					/>
				) : (
					shown !== undefined && <p className={css.dim}>There is no step {shown}.</p>
				)}
			</div>
		</div>
	);
}

/** The child that a step called, by the number of the step: waits and ends of children name them. */
function childrenOf(history: readonly Moment[]): Map<number, string> {
	const children = new Map<number, string>();
	for (const moment of history) {
		if (moment.what === "child_ended") children.set(moment.step, moment.invocation);
		if (moment.what !== "waiting") continue;
		for (const item of moment.waits_for) if (item.on === "child") children.set(item.step, item.invocation);
	}
	return children;
}

function toggled(before: ReadonlySet<number>, step: number): ReadonlySet<number> {
	const next = new Set(before);
	if (!next.delete(step)) next.add(step);
	return next;
}
