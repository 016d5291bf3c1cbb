/** Postgres as the mesh sees it; no exporter of its own is needed. */
import type { Board } from "../kit/board.js";
import { series, stat } from "../kit/panels.js";
import { highest, orZero, quantile, total } from "../kit/promql.js";

export const postgres: Board = {
	uid: "mesh-postgres",
	title: "Mesh: Postgres",
	help: "Whether the database answers, has room, and keeps up with the journal.",
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Answers",
					help: "Normal: 1. With 0 nothing is accepted and nothing is lost: runbook of MeshPostgresDown.",
					unit: "short",
					queries: [{ expr: orZero(highest("mesh_postgres_up")) }],
					steps: ["red", [1, "green"]],
				}),
				stat({
					title: "Connections in use",
					help: "Of those that the server takes. Normal: below 70 %. Above: fewer processes, smaller pools, or a larger `max_connections`.",
					unit: "percentunit",
					queries: [{ expr: orZero(`${highest("mesh_postgres_connections")} / ${highest("mesh_postgres_connections_max")}`) }],
					steps: ["green", [0.7, "orange"], [0.85, "red"]],
				}),
				stat({
					title: "Size",
					help: "Of the whole database. Normal: grows until the journal's retention takes as much as comes.",
					unit: "bytes",
					queries: [{ expr: orZero(highest("mesh_postgres_size_bytes", { where: 'schema="all"' })) }],
				}),
				stat({
					title: "Found in the cache",
					help: "Share of blocks. Normal: above 99 %. Below 95 %: `shared_buffers` is too small for what is open.",
					unit: "percentunit",
					decimals: 1,
					queries: [{ expr: orZero('max(mesh_postgres_blocks{from="cache"}) / sum(max by (from) (mesh_postgres_blocks))') }],
					steps: ["red", [0.9, "orange"], [0.95, "green"]],
				}),
				stat({
					title: "Deadlocks",
					help: "Since the statistics began. Normal: 0. Any: report it, with the database's log.",
					unit: "short",
					queries: [{ expr: orZero(highest("mesh_postgres_deadlocks")) }],
					steps: ["green", [1, "red"]],
				}),
				stat({
					title: "Free disk",
					help: "Least of all volumes that our processes see. Normal: above 20 GB. Below 2 GB the alert MeshDiskFull fires.",
					unit: "bytes",
					queries: [{ expr: orZero("min(mesh_disk_free_bytes)") }],
					steps: ["red", [2 * 1024 ** 3, "orange"], [20 * 1024 ** 3, "green"]],
				}),
			],
		},
		{
			title: "Work",
			panels: [
				series({
					title: "Transactions",
					help: "Per second. Normal: many invocations share one commit, so far fewer than steps. Many rolled back: read the database's log.",
					unit: "ops",
					queries: [{ expr: "max by (outcome) (rate(mesh_postgres_transactions[$__rate_interval]))", legend: "{{outcome}}" }],
				}),
				series({
					title: "Time of a commit of the journal",
					help: "Normal: below 10 ms for 99 %. It is one fsync: what is slow here is the disk.",
					unit: "s",
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_commit_duration_seconds"), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_commit_duration_seconds"), legend: "99 %" },
					],
				}),
				series({
					title: "Pools",
					help: "Connections that our processes use and may use, by role. Normal: used stays below size. At size, callers wait.",
					unit: "short",
					queries: [
						{ expr: total("mesh_pool_connections", { by: ["role"], where: 'state="used"' }), legend: "{{role}} used" },
						{ expr: total("mesh_pool_size", { by: ["role"] }), legend: "{{role}} size" },
					],
				}),
				series({
					title: "Connections",
					help: "Of the server, by anybody. Normal: flat. The dashed line is what it takes.",
					unit: "short",
					queries: [
						{ expr: highest("mesh_postgres_connections"), legend: "open" },
						{ expr: highest("mesh_postgres_connections_max"), legend: "allowed" },
					],
				}),
			],
		},
		{
			title: "Room",
			panels: [
				series({
					title: "Size by schema",
					help: "Normal: execution holds most of it: the journal. Old weeks are dropped whole by its retention.",
					unit: "bytes",
					stacked: true,
					queries: [{ expr: highest("mesh_postgres_size_bytes", { by: ["schema"], where: 'schema!="all"' }), legend: "{{schema}}" }],
				}),
				series({
					title: "Rows for vacuum",
					help: "Dead rows by schema. Normal: a saw. A steady rise: a transaction stands open for hours; `mesh doctor` looks for it.",
					unit: "short",
					queries: [{ expr: highest("mesh_postgres_dead_tuples", { by: ["schema"] }), legend: "{{schema}}" }],
				}),
			],
		},
	],
};
