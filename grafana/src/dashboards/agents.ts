/** What each agent does, waits for and costs. */
import { agent, type Board, tenant } from "../kit/board.js";
import { series, stat, table } from "../kit/panels.js";
import { counted, highest, orZero, perSecond, total } from "../kit/promql.js";

const OF = 'tenant=~"$tenant",agent=~"$agent"';
const AGENT_PAGE = { title: "This agent in the web UI", url: "$mesh_url/t/${__field.labels.tenant}/agents/${__field.labels.agent}" };
const MILLIONTHS = 1_000_000;

export const agents: Board = {
	uid: "mesh-agents",
	title: "Mesh: agents and cost",
	help: "Which agent waits, calls models, and spends how much; by tenant and agent.",
	variables: [tenant(), agent()],
	from: "now-6h",
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Spent",
					help: "In the time shown, by recorded model steps. Normal: what you planned; `limits.cost_usd` of an agent bounds each invocation.",
					unit: "currencyUSD",
					decimals: 2,
					width: 6,
					queries: [{ expr: orZero(`${counted("mesh_agent_cost_total", { where: OF })} / ${MILLIONTHS}`) }],
				}),
				stat({
					title: "Tokens",
					help: "In the time shown, in and out. Normal: follows the work. A jump without more work: a prompt or a loop has grown.",
					unit: "short",
					width: 6,
					queries: [{ expr: orZero(counted("mesh_agent_tokens_total", { where: OF })) }],
				}),
				stat({
					title: "Spent within a day, by the dearest tenant",
					help: "The last 24 hours. Normal: what you planned. Above 100 dollars the alert MeshBudget fires; its limit stands in grafana/src/alerts/work.ts.",
					unit: "currencyUSD",
					decimals: 2,
					width: 6,
					queries: [{ expr: orZero(`max(sum by (tenant) (increase(mesh_agent_cost_total{tenant=~"$tenant"}[1d]))) / ${MILLIONTHS}`) }],
					steps: ["green", [80, "orange"], [100, "red"]],
				}),
				stat({
					title: "Calls without a price",
					help: "In the time shown. Normal: 0, save for models of your own. Their cost counts as nothing: give them a price in the configuration.",
					unit: "short",
					decimals: 0,
					width: 6,
					queries: [{ expr: orZero(counted("mesh_model_unpriced_total")) }],
					steps: ["green", [1, "orange"]],
				}),
			],
		},
		{
			title: "Work",
			panels: [
				series({
					title: "Waiting for a slot",
					help: "Runnable invocations by agent. Normal: near 0. Growing: the agent is paused (`mesh resume`), slow, or has too few slots.",
					unit: "short",
					queries: [{ expr: `topk(10, ${total("mesh_queue_waiting", { by: ["tenant", "agent"], where: OF })})`, legend: "{{tenant}} / {{agent}}" }],
					links: [AGENT_PAGE],
				}),
				series({
					title: "Longest wait",
					help: "Age of the oldest runnable invocation. Normal: seconds. Above five minutes the alert MeshQueueLag fires.",
					unit: "s",
					steps: ["transparent", [300, "red"]],
					queries: [{ expr: `topk(10, ${highest("mesh_queue_age_seconds", { by: ["tenant", "agent"], where: OF })})`, legend: "{{tenant}} / {{agent}}" }],
					links: [AGENT_PAGE],
				}),
				series({
					title: "Model calls",
					help: "Recorded model steps per second. Normal: follows the invocations; an agent far above the others may loop.",
					unit: "ops",
					queries: [{ expr: `topk(10, ${perSecond("mesh_agent_model_calls_total", { by: ["tenant", "agent"], where: OF })})`, legend: "{{tenant}} / {{agent}}" }],
					links: [AGENT_PAGE],
				}),
				series({
					title: "Tokens by direction",
					help: "Per second. Normal: far more in than out. Input that grows by itself: histories are not compacted.",
					unit: "short",
					stacked: true,
					queries: [{ expr: perSecond("mesh_agent_tokens_total", { by: ["direction"], where: OF }), legend: "{{direction}}" }],
				}),
			],
		},
		{
			title: "Money",
			panels: [
				series({
					title: "Spent per hour",
					help: "By agent, at the present rate. Normal: flat by the day. A step up: see which version was published then.",
					unit: "currencyUSD",
					decimals: 2,
					stacked: true,
					queries: [
						{
							expr: `topk(10, ${perSecond("mesh_agent_cost_total", { by: ["tenant", "agent"], where: OF })} * 3600 / ${MILLIONTHS})`,
							legend: "{{tenant}} / {{agent}}",
						},
					],
					links: [AGENT_PAGE],
				}),
				table({
					title: "Spent by agent",
					help: "In the time shown, in US dollars. Normal: what you planned. The journal has each call of it.",
					unit: "currencyUSD",
					decimals: 4,
					queries: [{ expr: `topk(20, ${counted("mesh_agent_cost_total", { by: ["tenant", "agent"], where: OF })} / ${MILLIONTHS})` }],
				}),
				table({
					title: "Spent by tenant",
					help: "In the time shown, in US dollars. Normal: what each tenant planned; `limits.cost_usd` bounds single invocations.",
					unit: "currencyUSD",
					decimals: 4,
					queries: [{ expr: `${counted("mesh_agent_cost_total", { by: ["tenant"], where: OF })} / ${MILLIONTHS}` }],
				}),
				series({
					title: "Spent per hour by provider",
					help: "What the providers will bill, also for calls that no agent recorded. Normal: the same as by agent.",
					unit: "currencyUSD",
					decimals: 2,
					queries: [{ expr: `${perSecond("mesh_model_cost_total", { by: ["provider"] })} * 3600 / ${MILLIONTHS}`, legend: "{{provider}}" }],
				}),
			],
		},
	],
};
