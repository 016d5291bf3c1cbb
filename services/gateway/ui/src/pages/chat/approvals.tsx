/** What an answer waits for a person to decide, in the talk itself. */
import { TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ask, client } from "../../api/client";
import { Act } from "../../parts/act";
import css from "./chat.module.css";
import { keepTurn, keys, readInvocation, useApprovals } from "./data";
import type { Invocation } from "./fold";

interface Waits {
	readonly step: number;
	readonly on: string;
	readonly tool?: string;
	readonly name?: string;
	readonly until?: string | null;
	readonly invocation?: string;
}

export function Approvals({ tenant, turn }: { tenant: string; turn: Invocation }): ReactNode {
	const waits = (turn.waits_for ?? []) as unknown as readonly Waits[];
	const needsPerson = waits.some(({ on }) => on === "approval");
	const approvals = useApprovals(tenant, needsPerson);
	return waits.map((wait) =>
		wait.on === "approval" ? (
			<Ask key={wait.step} tenant={tenant} turn={turn} wait={wait} input={approvals.get(`${turn.id}-${wait.step}`)?.input} />
		) : (
			<p key={wait.step} className={css.waits}>
				<Other tenant={tenant} wait={wait} />
			</p>
		),
	);
}

function Other({ tenant, wait }: { tenant: string; wait: Waits }): ReactNode {
	switch (wait.on) {
		case "timer":
			return `sleeps until ${wait.until}`;
		case "signal":
			return `waits for the signal ${wait.name}`;
		case "child":
			return (
				<>
					waits for{" "}
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: wait.invocation ?? "" }}>
						another agent
					</Link>
				</>
			);
		default:
			return (
				<>
					nobody knows whether {wait.name} happened:{" "}
					<Link to="/t/$tenant/attention" params={{ tenant }}>
						decide in Attention
					</Link>
				</>
			);
	}
}

function Ask({ tenant, turn, wait, input }: { tenant: string; turn: Invocation; wait: Waits; input: unknown }): ReactNode {
	const queries = useQueryClient();
	const [note, setNote] = useState("");
	const id = `${turn.id}-${wait.step}`;
	const decide = async (decision: "approve" | "deny") => {
		const body = { decision, note: note.trim() === "" ? null : note.trim() };
		await ask(client.POST("/api/v1/approvals/{id}", { params: { path: { id } }, body }));
		void queries.invalidateQueries({ queryKey: keys.approvals(tenant) });
		keepTurn(queries, tenant, await readInvocation(turn.id));
	};
	return (
		<section className={css.ask} aria-label={`Approval of ${wait.tool}`}>
			<strong className={css.waits}>
				{turn.agent} asks to call <code>{wait.tool}</code>
			</strong>
			{input !== undefined && (
				<pre tabIndex={0} className={css.value}>
					{JSON.stringify(input, null, 2)}
				</pre>
			)}
			<TextInput
				size="xs"
				aria-label="Note for the agent and the journal"
				placeholder="note (optional)"
				value={note}
				onChange={(event) => setNote(event.currentTarget.value)}
			/>
			<span className={css.acts}>
				<Act label="Approve" least="operator" tone="primary" command={`mesh approve ${id}`} run={() => decide("approve")} />
				<Act label="Deny" least="operator" command={`mesh deny ${id}`} run={() => decide("deny")} />
			</span>
		</section>
	);
}
