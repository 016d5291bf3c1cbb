/** Is it well, and what needs me? */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useMemo } from "react";
import { ask, client } from "../../api/client";
import { useCoalesced } from "../../app/coalesce";
import { useTopic } from "../../live/live";
import { Chart } from "../../parts/chart";
import { Empty } from "../../parts/empty";
import { Boundary, Pane } from "../../parts/pane";
import { StateMark } from "../../parts/state";
import { AgentTable } from "./agent-table";
import { Needs } from "./needs";
import css from "./overview.module.css";
import { dollars, endedAll, failedPercent, type Overview as Counted, rate, short } from "./rates";
import { RANGES, type Range } from "./search";

/** Counted again this often at most, and only after something changed. */
const COUNT_PAUSE_MS = 2_000;
const SAID: Record<Range, string> = { "1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days" };

export function Overview(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/" });
	const { range = "1h" } = useSearch({ from: "/t/$tenant/" });
	const cache = useQueryClient();
	const key = [tenant, "overview", range];
	const overview = useQuery({
		queryKey: key,
		queryFn: ({ signal }) => ask(client.GET("/api/v1/overview", { signal, params: { query: { range } } })),
	});
	const recount = useCoalesced(() => void cache.invalidateQueries({ queryKey: key }), COUNT_PAUSE_MS);
	useTopic("invocations", { push: recount, reset: recount });
	useTopic("dead-letters", { push: recount, reset: recount });
	return (
		<>
			<div className={css.bar}>
				<h1 className={css.title}>Overview</h1>
				<ul className={css.ranges} aria-label="Range">
					{RANGES.map((one) => (
						<li key={one}>
							<Link to="." search={one === "1h" ? {} : { range: one }} activeOptions={{ exact: true }}>
								{SAID[one]}
							</Link>
						</li>
					))}
				</ul>
			</div>
			<Pane query={overview} rows={10}>
				{(data) => (
					<>
						<Needs tenant={tenant} counts={data.attention} />
						<Numbers tenant={tenant} overview={data} />
						{endedAll(data.ended) + data.open.queued + data.open.running + data.open.waiting === 0 ? (
							<Empty says={`Nothing ran in the ${SAID[range]}.`} command='mesh invoke sofia "hello"' />
						) : (
							<>
								<Boundary>
									<Charts overview={data} />
								</Boundary>
								<AgentTable tenant={tenant} overview={data} />
							</>
						)}
					</>
				)}
			</Pane>
		</>
	);
}

function Numbers({ tenant, overview }: { tenant: string; overview: Counted }): ReactNode {
	const { open, ended, since } = overview;
	const failed = failedPercent(ended);
	const to = { to: "/t/$tenant/invocations", params: { tenant } } as const;
	return (
		<ul className={css.numbers} aria-label="Now">
			{(["queued", "running", "waiting"] as const).map((state) => (
				<li key={state}>
					<Link {...to} search={{ state }}>
						<span className={css.number}>{open[state].toLocaleString("en")}</span>
						<StateMark state={state} />
					</Link>
				</li>
			))}
			<li>
				<Link {...to} search={{ since }}>
					<span className={css.number}>{short(rate(endedAll(ended), overview, 60))}</span>
					<span className={css.what}>ended / min</span>
				</Link>
			</li>
			<li>
				<Link {...to} search={{ since, state: "failed" }}>
					<span className={css.number} data-bad={(failed ?? 0) > 0 || undefined}>
						{failed === undefined ? "none" : `${short(failed)} %`}
					</span>
					<span className={css.what}>failed: {(ended.failed + ended.dead).toLocaleString("en")}</span>
				</Link>
			</li>
			<li>
				<Link {...to} search={{ since }}>
					<span className={css.number}>{dollars(rate(overview.cost_usd, overview, 3_600))}</span>
					<span className={css.what}>per hour: {dollars(overview.cost_usd)}</span>
				</Link>
			</li>
		</ul>
	);
}

function Charts({ overview }: { overview: Counted }): ReactNode {
	const { parts } = overview;
	const minutes = overview.part_seconds / 60;
	const shown = useMemo(() => {
		const of = (read: (part: Counted["parts"][number]) => number) => parts.map((part) => read(part) / minutes);
		return {
			times: parts.map((part) => Date.parse(part.at) / 1_000),
			outcomes: [
				{ name: "failed", colour: "failed", values: of((part) => part.failed + part.dead) },
				{ name: "cancelled", colour: "dim", values: of((part) => part.cancelled) },
				{ name: "completed", colour: "completed", values: of((part) => part.completed) },
			],
			cost: [{ name: "cost", colour: "accent", values: parts.map((part) => (part.cost_usd * 60) / minutes) }],
		};
	}, [parts, minutes]);
	return (
		<div className={css.charts}>
			<section aria-labelledby="outcomes">
				<h2 id="outcomes">
					Ended per minute
					<span className={css.legend}>
						<StateMark state="completed" /> <StateMark state="failed" /> <StateMark state="cancelled" />
					</span>
				</h2>
				<Chart
					label={`Ended per minute, failures at the base: ${overview.ended.completed} completed, ${overview.ended.failed + overview.ended.dead} failed, ${overview.ended.cancelled} cancelled`}
					times={shown.times}
					series={shown.outcomes}
					kind="stacked bars"
					say={short}
				/>
			</section>
			<section aria-labelledby="cost">
				<h2 id="cost">Cost per hour</h2>
				<Chart label={`Cost per hour: ${dollars(overview.cost_usd)} in all`} times={shown.times} series={shown.cost} say={dollars} />
			</section>
			<Costs overview={overview} />
		</div>
	);
}

const COSTS_MAX = 6;

/** Which agents cost most, as bars whose length is their share. */
function Costs({ overview }: { overview: Counted }): ReactNode {
	const dear = overview.agents
		.filter((agent) => agent.cost_usd > 0)
		.sort((left, right) => right.cost_usd - left.cost_usd)
		.slice(0, COSTS_MAX);
	const most = dear[0]?.cost_usd ?? 0;
	return (
		<section aria-labelledby="costs">
			<h2 id="costs">Cost by agent</h2>
			{dear.length === 0 && <p className={css.what}>Nothing cost anything.</p>}
			<dl className={css.costs}>
				{dear.map((agent) => (
					<div key={agent.agent}>
						<dt>{agent.agent}</dt>
						<dd>
							<span className={css.cost} style={{ width: `${(agent.cost_usd / most) * 100}%` }} />
							{dollars(agent.cost_usd)}
						</dd>
					</div>
				))}
			</dl>
		</section>
	);
}
