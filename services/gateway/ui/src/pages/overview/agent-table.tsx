/** Agents with work in the range: what is open, what failed, how long it took, what it cost, what answers for them. */
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo } from "react";
import { span } from "../../app/time";
import { useBrain } from "../nodes/data";
import { type AgentRow, agentRows } from "../reconciler/fold";
import css from "./overview.module.css";
import { dollars, type Overview, rate, short } from "./rates";

export function AgentTable({ tenant, overview }: { tenant: string; overview: Overview }): ReactNode {
	const { since } = overview;
	const to = { to: "/t/$tenant/invocations", params: { tenant } } as const;
	const brain = useBrain(tenant).data;
	const placed = useMemo(() => {
		const rows = brain === undefined ? [] : agentRows(brain, brain.passes);
		return new Map(rows.map((row) => [row.agent, row]));
	}, [brain]);
	return (
		<div className={css.scroll}>
			<table className={css.agents}>
				<caption className="visually-hidden">Agents</caption>
				<thead>
					<tr>
						{["agent", "run", "wait", "fail/h", "p50", "p99", "$/h", "replicas"].map((name) => (
							<th key={name} scope="col">
								{name}
							</th>
						))}
					</tr>
				</thead>
				<tbody>
					{overview.agents.map((row) => {
						const { agent } = row;
						const failed = row.failed + row.dead;
						return (
							<tr key={agent}>
								<th scope="row">
									<Link to="/t/$tenant/agents/$agent" params={{ tenant, agent }}>
										{agent}
									</Link>
								</th>
								<td>
									<Link {...to} search={{ agent, state: "running" }}>
										{row.running.toLocaleString("en")}
									</Link>
								</td>
								<td>
									<Link {...to} search={{ agent, state: "waiting" }}>
										{row.waiting.toLocaleString("en")}
									</Link>
								</td>
								<td data-bad={failed > 0 || undefined}>
									<Link {...to} search={{ agent, state: "failed", since }}>
										{short(rate(failed, overview, 3_600))}
									</Link>
								</td>
								<td>{row.p50_ms === null || row.p50_ms === undefined ? "" : span(row.p50_ms)}</td>
								<td>{row.p99_ms === null || row.p99_ms === undefined ? "" : span(row.p99_ms)}</td>
								<td>{dollars(rate(row.cost_usd, overview, 3_600))}</td>
								<td>
									<Replicas tenant={tenant} placed={placed.get(agent)} />
								</td>
							</tr>
						);
					})}
				</tbody>
			</table>
		</div>
	);
}

/** Only agents that are placed on nodes have replicas; where some are missing, why comes with it. */
function Replicas({ tenant, placed }: { tenant: string; placed: AgentRow | undefined }): ReactNode {
	if (placed === undefined) return null;
	const { agent, ready, wanted, drift, why } = placed;
	const reason = drift === "" ? "" : why || drift;
	return (
		<>
			<Link to="/t/$tenant/reconciler" params={{ tenant }} search={{ agent }} title={reason}>
				{ready} of {wanted}
			</Link>
			{reason !== "" && <span className={css.why}>: {reason}</span>}
		</>
	);
}
