/** What waits for me? Approvals, steps of which nobody knows whether they happened, and dead letters by reason. */
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useCallback, useMemo, useRef, useState } from "react";
import { Time } from "../../app/time";
import { Empty } from "../../parts/empty";
import { JsonTree } from "../../parts/json-tree";
import { Pane } from "../../parts/pane";
import { Pill } from "../../parts/pill";
import { useRowKeys } from "../../parts/rows";
import css from "./attention.module.css";
import { type Listed, useWaiting } from "./data";
import { DeadLetters } from "./dead";
import { Decide } from "./decide";
import { KINDS, type Kind } from "./search";
import type { Approval } from "./waiting";

const NAMES: Record<Kind, string> = { approval: "approvals", ambiguous: "ambiguous", dead: "dead letters" };
/** Scrolled less than this, the page is at its top. */
const TOP_PX = 40;

export function Attention(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/attention" });
	const { kind, reason } = useSearch({ from: "/t/$tenant/attention" });
	const [unseen, setUnseen] = useState(0);
	const { approvals, letters, readLetters } = useWaiting(tenant, () => {
		if (window.scrollY < TOP_PX) readLetters();
		else setUnseen((count) => count + 1);
	});
	const asked = approvals.data?.items ?? [];
	const counts: Record<Kind, number | undefined> = {
		approval: approvals.data && asked.filter((one) => one.kind !== "ambiguous").length,
		ambiguous: approvals.data && asked.filter((one) => one.kind === "ambiguous").length,
		dead: letters.data?.items.length,
	};
	return (
		<>
			<Kinds kind={kind} counts={counts} />
			{kind !== "dead" && (
				<Pane query={approvals} rows={4} isEmpty={(data) => shownOf(data, kind).length === 0} empty={<Nothing kind={kind} />}>
					{(data) => <Approvals tenant={tenant} listed={data} kind={kind} />}
				</Pane>
			)}
			{(kind === undefined || kind === "dead") && (
				<section aria-label="Dead letters" className={css.section}>
					<h2 className={css.heading}>Dead letters</h2>
					<Pill
						count={unseen}
						show={() => {
							setUnseen(0);
							readLetters();
							window.scrollTo({ top: 0 });
						}}
					/>
					<Pane
						query={letters}
						rows={4}
						isEmpty={(data) => data.items.length === 0}
						empty={<Empty says="No dead letter: everything could be handled." />}
					>
						{(data) => <DeadLetters tenant={tenant} listed={data} reason={reason} />}
					</Pane>
				</section>
			)}
		</>
	);
}

function Kinds({ kind, counts }: { kind: Kind | undefined; counts: Record<Kind, number | undefined> }): ReactNode {
	const known = Object.values(counts).filter((count) => count !== undefined);
	return (
		<div className={css.bar}>
			<h1 className={css.title}>Attention</h1>
			<ul aria-label="Filter by kind" className={css.kinds}>
				<li>
					<Link to="." search={{}} activeOptions={{ exact: true }} aria-current={kind === undefined ? "true" : undefined}>
						all {known.length === KINDS.length ? known.reduce((sum, count) => sum + count, 0) : ""}
					</Link>
				</li>
				{KINDS.map((one) => (
					<li key={one}>
						<Link to="." search={{ kind: one }} activeOptions={{ exact: true }} aria-current={kind === one ? "true" : undefined}>
							{NAMES[one]} {counts[one]}
						</Link>
					</li>
				))}
			</ul>
		</div>
	);
}

function Nothing({ kind }: { kind: Kind | undefined }): ReactNode {
	const says = kind === "ambiguous" ? "No step is ambiguous." : "Nothing waits for a decision.";
	return <Empty says={says} />;
}

function shownOf({ items }: Listed<Approval>, kind: Kind | undefined): readonly Approval[] {
	if (kind === undefined) return items;
	return items.filter((one) => (one.kind === "ambiguous") === (kind === "ambiguous"));
}

function Approvals(props: { tenant: string; listed: Listed<Approval>; kind: Kind | undefined }): ReactNode {
	const { tenant, listed, kind } = props;
	const { item } = useSearch({ from: "/t/$tenant/attention" });
	const navigate = useNavigate({ from: "/t/$tenant/attention" });
	const list = useRef<HTMLUListElement>(null);
	const items = useMemo(() => shownOf(listed, kind), [listed, kind]);
	const ids = useMemo(() => items.map((one) => one.id), [items]);
	const reveal = useCallback((index: number) => {
		const card = list.current?.children[index];
		if (card instanceof HTMLElement) card.focus();
	}, []);
	const { current, mark } = useRowKeys({
		ids,
		initial: item,
		reveal,
		open: (index) => {
			const one = items[index];
			if (one) void navigate({ to: "/t/$tenant/invocations/$id", params: { tenant, id: one.invocation }, search: { step: one.step } });
		},
		onMark: (id) => void navigate({ search: (search) => ({ ...search, ...(id ? { item: id } : {}) }), replace: true }),
	});
	return (
		<section aria-label="Decisions" className={css.section}>
			<h2 className={css.heading}>Decisions</h2>
			<ul ref={list} className={css.cards}>
				{items.map((one, index) => (
					// biome-ignore lint/a11y/noNoninteractiveTabindex: a card is reached by j and k.
					<li
						key={one.id}
						tabIndex={-1}
						className={css.card}
						aria-current={index === current ? "true" : undefined}
						onFocus={() => index !== current && mark(index)}
					>
						<Card tenant={tenant} one={one} isMarked={index === current} />
					</li>
				))}
			</ul>
			{listed.hasMore && <p className={css.dim}>Only {listed.items.length} are shown; decide on some to see others.</p>}
		</section>
	);
}

function Card({ tenant, one, isMarked }: { tenant: string; one: Approval; isMarked: boolean }): ReactNode {
	const isAmbiguous = one.kind === "ambiguous";
	return (
		<>
			<div className={css.line}>
				<h3 className={css.name}>
					{isAmbiguous ? "? " : ""}
					{one.name}
				</h3>
				<span>
					{isAmbiguous ? "may have happened, called by" : "asked for by"}{" "}
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: one.invocation }} search={{ step: one.step }}>
						{one.agent} …{one.invocation.slice(-6)}, step {one.step}
					</Link>
				</span>
				<span className={css.dim}>
					since <Time at={one.since} />
				</span>
			</div>
			<JsonTree label={`Arguments of ${one.name}`} text={one.written} heightMax={240} />
			<Decide id={one.id} kind={isAmbiguous ? "ambiguous" : "approval"} name={one.name} withKeys={isMarked && !isAmbiguous} />
		</>
	);
}
