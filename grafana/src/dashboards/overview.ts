/** Is it well? One screen for whoever was just woken up. */
import { type Board, instance, service } from "../kit/board.js";
import { series, stat, table } from "../kit/panels.js";
import { counted, highest, orZero, perSecond, quantile, share, total } from "../kit/promql.js";

const OF_PROCESS = 'instance=~"$instance"';
const OF_SERVICE = 'mesh_service=~"$service",instance=~"$instance"';

export const overview: Board = {
	uid: "mesh-overview",
	title: "Mesh: overview",
	help: "Whether the mesh is well: what it is asked, what fails, how long it takes, and which process is in trouble.",
	variables: [service(), instance()],
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Alerts that fire",
					help: "Normal: 0. Otherwise click: each alert names what it is about and leads to its runbook.",
					unit: "short",
					queries: [{ expr: orZero('count(ALERTS{alertstate="firing",alertname=~"Mesh.+"})') }],
					steps: ["green", [1, "red"]],
					links: [{ title: "Alerts", url: "/alerting/list?search=Mesh" }],
				}),
				stat({
					title: "Processes that do not answer",
					help: "Normal: 0. Otherwise see which in the table below, then `docker compose logs <service>` or `mesh logs`.",
					unit: "short",
					queries: [{ expr: orZero('count(up{job="mesh"} == 0)') }],
					steps: ["green", [1, "red"]],
				}),
				stat({
					title: "Invocations accepted",
					help: "Per second. Normal is what your clients send; a fall to 0 under load means that intake stands still.",
					unit: "ops",
					queries: [{ expr: orZero(perSecond("mesh_invocations_accepted_total")) }],
					links: [{ title: "Execution", url: "/d/mesh-execution" }],
				}),
				stat({
					title: "Invocations that fail",
					help: "Share of those that ended. Normal: below 5 %. Otherwise see which agent, and open one of its failed invocations.",
					unit: "percentunit",
					decimals: 1,
					queries: [
						{
							expr: orZero(
								share(perSecond("mesh_invocations_ended_total", { where: 'outcome=~"failed|dead"' }), perSecond("mesh_invocations_ended_total")),
							),
						},
					],
					steps: ["green", [0.05, "orange"], [0.2, "red"]],
					links: [{ title: "One invocation", url: "/d/mesh-invocation" }],
				}),
				stat({
					title: "Waiting for a slot",
					help: "Runnable invocations. Normal: some, for seconds. If it grows, see which agent is paused, slow or too small.",
					unit: "short",
					queries: [{ expr: orZero(total("mesh_queue_waiting")) }],
					steps: ["green", [100, "orange"], [1000, "red"]],
					links: [{ title: "Agents", url: "/d/mesh-agents" }],
				}),
				stat({
					title: "Nodes online",
					help: "Normal: the machines that you joined. Fewer: `mesh nodes` says which one is lost.",
					unit: "short",
					queries: [{ expr: orZero(highest("mesh_nodes", { where: 'status="online"' })) }],
					links: [{ title: "Fleet", url: "/d/mesh-fleet" }],
				}),
			],
		},
		{
			title: "Traffic",
			panels: [
				series({
					title: "Invocations by outcome",
					help: "Ends per second. Normal: nearly all completed. For failed and dead ones see the agent's page in the web UI.",
					unit: "ops",
					stacked: true,
					queries: [{ expr: perSecond("mesh_invocations_ended_total", { by: ["outcome"] }), legend: "{{outcome}}" }],
				}),
				series({
					title: "Time from acceptance to end",
					help: "Normal is set by your agents' models. A rise without one of models or queues means slow commits: see Execution.",
					unit: "s",
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_invocation_duration_seconds"), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_invocation_duration_seconds"), legend: "99 %" },
					],
				}),
				series({
					title: "HTTP answers by status",
					help: "Normal: 2xx; 4xx are mistakes of clients. 5xx are ours: the table beside names the route.",
					unit: "reqps",
					stacked: true,
					queries: [{ expr: perSecond("mesh_http_requests_total", { by: ["status"] }), legend: "{{status}}" }],
				}),
				series({
					title: "Time to an HTTP answer",
					help: "To the head of the answer. Normal: below 50 ms for 99 %, save where a client waits for a result.",
					unit: "s",
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_http_duration_seconds"), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_http_duration_seconds"), legend: "99 %" },
					],
				}),
				table({
					title: "Failed requests by route",
					help: "5xx within the time shown. Normal: none. The log of `gateway` says why, with a trace id.",
					unit: "short",
					decimals: 0,
					queries: [
						{ expr: `topk(10, ${counted("mesh_http_requests_total", { by: ["route", "method", "status"], where: 'status=~"5.."' })})` },
					],
				}),
				series({
					title: "Failed calls between services",
					help: "Per second, by endpoint. Normal: none; what a caller did wrong is not counted. Many of one endpoint: read that service's log.",
					unit: "ops",
					queries: [
						{
							expr: `topk(10, ${perSecond("mesh_bus_requests_total", { by: ["endpoint", "outcome"], where: 'outcome=~"failed|busy|late"' })} > 0)`,
							legend: "{{endpoint}}: {{outcome}}",
						},
					],
				}),
			],
		},
		{
			title: "Processes",
			panels: [
				series({
					title: "Processor",
					help: "Cores in use by process. Normal: well below what the machine has; `mesh bench` says what one core carries.",
					unit: "short",
					decimals: 2,
					queries: [{ expr: `sum by (instance) (rate(process_cpu_seconds_total{job="mesh",${OF_PROCESS}}[$__rate_interval]))`, legend: "{{instance}}" }],
				}),
				series({
					title: "Memory",
					help: "Resident. Normal: flat within minutes; open invocations cost some hundred bytes each. A steady rise: `mesh doctor`.",
					unit: "bytes",
					queries: [{ expr: `sum by (instance) (process_resident_memory_bytes{job="mesh",${OF_PROCESS}})`, legend: "{{instance}}" }],
				}),
				series({
					title: "Time to answer on the bus",
					help: "99 % of requests between services, by service. Normal: below 25 ms; models and searches take longer.",
					unit: "s",
					exemplars: true,
					queries: [{ expr: quantile(0.99, "mesh_bus_duration_seconds", { by: ["mesh_service"], where: OF_SERVICE }), legend: "{{mesh_service}}" }],
				}),
				series({
					title: "Panics and restarts",
					help: "Within the time of one point. Normal: 0. A panic is a defect: the log of that service has its place in the code.",
					unit: "short",
					queries: [
						{ expr: `sum by (mesh_service) (increase(mesh_task_panics_total{${OF_SERVICE}}[$__rate_interval]))`, legend: "panics in {{mesh_service}}" },
						{ expr: `sum by (mesh_service) (increase(mesh_service_restarts_total{${OF_SERVICE}}[$__rate_interval]))`, legend: "restarts of {{mesh_service}}" },
					],
				}),
				series({
					title: "Live connections",
					help: "By kind: live pushes by WebSocket and as events, streams of single invocations (sse), nodes by tunnel or NATS. Normal: as many as have the web UI open.",
					unit: "short",
					queries: [{ expr: total("mesh_live_connections", { by: ["kind"] }), legend: "{{kind}}" }],
				}),
				table({
					title: "Answers to Prometheus",
					help: "Normal: 1, the process tells its figures; 0: it does not. A container that is gone leaves this list: see the alert MeshServiceDown.",
					unit: "short",
					decimals: 0,
					steps: ["red", [1, "green"]],
					queries: [{ expr: 'max by (service, instance) (up{job="mesh"})' }],
				}),
			],
		},
	],
};
