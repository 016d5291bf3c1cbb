/** Nodes and the reconciler that places agents on them. */
import type { Board } from "../kit/board.js";
import { series, stat } from "../kit/panels.js";
import { highest, orZero, perSecond, quantile } from "../kit/promql.js";

export const fleet: Board = {
	uid: "mesh-fleet",
	title: "Mesh: fleet and reconciler",
	help: "Which nodes are there, whether what runs is what should run, and since when not.",
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Online",
					help: "Nodes that speak. Normal: all that you joined. `mesh nodes` lists them.",
					unit: "short",
					queries: [{ expr: orZero(highest("mesh_nodes", { where: 'status="online"' })) }],
					links: [{ title: "Nodes in the web UI", url: "$mesh_url" }],
				}),
				stat({
					title: "Lost",
					help: "Nodes that are silent or deaf. Normal: 0. Their work goes on elsewhere; `mesh nodes forget` removes one that will not return.",
					unit: "short",
					queries: [{ expr: orZero('sum(max by (status) (mesh_nodes{status=~"offline|deaf"}))') }],
					steps: ["green", [1, "red"]],
				}),
				stat({
					title: "Oldest heartbeat",
					help: "Of the nodes that count as online. Normal: below 15 s. Above: NATS or `heartbeat` is slow, or a node is about to be lost.",
					unit: "s",
					queries: [{ expr: orZero("max(mesh_heartbeat_age_seconds)") }],
					steps: ["green", [20, "orange"], [60, "red"]],
				}),
				stat({
					title: "Leaders of the reconciler",
					help: "Normal: 1. With 0 nothing is placed; above 1 for longer than a second, read the runbook of MeshNoReconcilerLeader.",
					unit: "short",
					queries: [{ expr: orZero("sum(mesh_reconciler_leads)") }],
					steps: ["red", [1, "green"], [2, "red"]],
				}),
				stat({
					title: "Differences",
					help: "Between what should run and what is seen. Normal: 0, or some for seconds after a change. `mesh plan` says what would be done.",
					unit: "short",
					queries: [{ expr: orZero("sum(max by (kind) (mesh_reconciler_drift))") }],
					steps: ["green", [1, "orange"]],
				}),
				stat({
					title: "Oldest difference",
					help: "Normal: below 30 s. Above five minutes the alert MeshDrift fires; `mesh brain` says what stands in the way.",
					unit: "s",
					queries: [{ expr: orZero("max(mesh_reconciler_drift_age_seconds)") }],
					steps: ["green", [60, "orange"], [300, "red"]],
				}),
			],
		},
		{
			title: "Nodes",
			panels: [
				series({
					title: "Nodes by status",
					help: "Normal: flat. Nodes that go back and forth between online and offline have a bad network or no processor time.",
					unit: "short",
					stacked: true,
					queries: [{ expr: highest("mesh_nodes", { by: ["status"] }), legend: "{{status}}" }],
				}),
				series({
					title: "Reports of nodes",
					help: "Per second. Normal: one heartbeat a node each ten seconds, all ok. Others: the log of `heartbeat` says why they are refused.",
					unit: "ops",
					queries: [{ expr: perSecond("mesh_node_reports_total", { by: ["kind", "outcome"] }), legend: "{{kind}}: {{outcome}}" }],
				}),
				series({
					title: "Rows written for nodes",
					help: "Per second, after reports were put together. Normal: far fewer than reports.",
					unit: "ops",
					queries: [{ expr: perSecond("mesh_node_rows_written_total", { by: ["kind"] }), legend: "{{kind}}" }],
				}),
				series({
					title: "Writes of presence",
					help: "Per second. Normal: renewals only. Many changes: nodes come and go.",
					unit: "ops",
					queries: [{ expr: perSecond("mesh_presence_writes_total", { by: ["kind", "outcome"] }), legend: "{{kind}}: {{outcome}}" }],
				}),
			],
		},
		{
			title: "Reconciler",
			panels: [
				series({
					title: "Passes by outcome",
					help: "Per second. Normal: unchanged. Blind: it could not see everything and did nothing; failed: see its log.",
					unit: "ops",
					stacked: true,
					queries: [{ expr: perSecond("mesh_reconciler_passes_total", { by: ["outcome"] }), legend: "{{outcome}}" }],
				}),
				series({
					title: "Time of a pass",
					help: "Normal: below 100 ms for 99 % with a thousand replicas. Longer: Postgres or NATS are slow.",
					unit: "s",
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_reconciler_pass_duration_seconds"), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_reconciler_pass_duration_seconds"), legend: "99 %" },
					],
				}),
				series({
					title: "Differences by kind",
					help: "After the last pass. Normal: back to 0 within seconds. What stays is told, with its reason, on the Reconciler page of the web UI.",
					unit: "short",
					stacked: true,
					queries: [{ expr: highest("mesh_reconciler_drift", { by: ["kind"] }), legend: "{{kind}}" }],
				}),
				series({
					title: "Age of the oldest difference",
					help: "Normal: a saw of seconds. A straight line upwards: something cannot be done; `mesh brain` names it.",
					unit: "s",
					steps: ["transparent", [300, "red"]],
					queries: [{ expr: highest("mesh_reconciler_drift_age_seconds"), legend: "oldest" }],
				}),
			],
		},
	],
};
