/** Dead letters by reason: what could not be handled, done after all as a fork, or let be. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { Time } from "../../app/time";
import { Act } from "../../parts/act";
import { type Column, Grid } from "../../parts/grid";
import css from "./attention.module.css";
import { type Listed, useSettle } from "./data";
import { byReason, type DeadLetter, type Reason } from "./waiting";

/** Requests of one act on many that are under way at once. */
const AT_ONCE = 4;

export function DeadLetters(props: { tenant: string; listed: Listed<DeadLetter>; reason: string | undefined }): ReactNode {
	const { tenant, listed, reason } = props;
	const reasons = byReason(listed.items).filter((one) => reason === undefined || one.type === reason);
	return (
		<>
			{reasons.map((one) => (
				<Group key={one.type} tenant={tenant} reason={one} />
			))}
			{listed.hasMore && <p className={css.dim}>Only the newest {listed.items.length} are shown; settle some to see others.</p>}
		</>
	);
}

function Group({ tenant, reason }: { tenant: string; reason: Reason }): ReactNode {
	const settle = useSettle(tenant);
	const { letters, type, title } = reason;
	const next = letters.find((letter) => letter.reason.next)?.reason.next;
	const all = (run: (letter: DeadLetter) => Promise<unknown>, of: readonly DeadLetter[]) => async () => {
		for (let at = 0; at < of.length; at += AT_ONCE) await Promise.all(of.slice(at, at + AT_ONCE).map(run));
	};
	const again = letters.filter((letter) => letter.origin === "invocation");
	const columns = columnsOf(tenant, settle);
	return (
		<section className={css.group} aria-label={title}>
			<div className={css.line}>
				<h3 className={css.name}>
					<Link to="." search={{ kind: "dead", reason: type }}>
						{letters.length} × {title}
					</Link>
				</h3>
				<code className={css.dim}>{type}</code>
				<span className={css.acts}>
					{again.length > 1 && (
						<Act
							label={`Requeue all ${again.length}`}
							least="operator"
							command={`mesh dead-letters requeue ${again.map((one) => one.id).join(" ")}`}
							confirm={<p>{again.length} new invocations go on from what is recorded; the dead ones stay as they are.</p>}
							yes={`Requeue ${again.length}`}
							run={all((one) => requeue(one, settle), again)}
						/>
					)}
					{letters.length > 1 && (
						<Act
							label={`Discard all ${letters.length}`}
							least="operator"
							tone="danger"
							command={`mesh dead-letters discard ${letters.map((one) => one.id).join(" ")}`}
							confirm={<p>{letters.length} dead letters are settled: nothing is done about them.</p>}
							yes={`Discard ${letters.length}`}
							run={all((one) => discard(one, settle), letters)}
						/>
					)}
				</span>
			</div>
			{next && <p className={css.dim}>Next: {next}</p>}
			<Grid label={title} columns={columns} items={letters} id={(letter) => letter.id} />
		</section>
	);
}

async function requeue({ id }: DeadLetter, settle: (id: string) => void): Promise<void> {
	await ask(client.POST("/api/v1/dead-letters/{id}/requeue", { params: { path: { id } } }));
	settle(id);
}

async function discard({ id }: DeadLetter, settle: (id: string) => void): Promise<void> {
	await ask(client.POST("/api/v1/dead-letters/{id}/discard", { params: { path: { id } } }));
	settle(id);
}

function columnsOf(tenant: string, settle: (id: string) => void): Column<DeadLetter>[] {
	return [
		{ key: "at", head: "when", width: "9rem", narrow: { width: "minmax(0, 1fr)" }, cell: (letter) => <Time at={letter.created_at} /> },
		{
			key: "why",
			head: "why",
			width: "minmax(0, 1fr)",
			cell: (letter) => <span title={letter.message ?? undefined}>{letter.reason.detail}</span>,
		},
		{
			key: "of",
			head: "of",
			width: "14rem",
			cell: ({ invocation, subject, origin }) =>
				invocation ? (
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: invocation }}>
						…{invocation.slice(-6)}
					</Link>
				) : (
					<code>{subject ?? origin}</code>
				),
		},
		{
			key: "acts",
			head: "acts",
			width: "15rem",
			cell: (letter) => (
				<span className={css.acts}>
					{letter.origin === "invocation" && (
						<Act
							label="Requeue"
							least="operator"
							command={`mesh dead-letters requeue ${letter.id}`}
							run={() => requeue(letter, settle)}
						/>
					)}
					<Act
						label="Discard"
						least="operator"
						command={`mesh dead-letters discard ${letter.id}`}
						run={() => discard(letter, settle)}
					/>
				</span>
			),
		},
	];
}
