/** The journal's owner: what is accepted, recorded, committed, told, and who owns which shard. */
import { type Board, instance } from "../kit/board.js";
import { series, stat } from "../kit/panels.js";
import { counted, mean, orZero, perSecond, quantile, total } from "../kit/promql.js";

const HERE = 'instance=~"$instance"';

export const execution: Board = {
	uid: "mesh-execution",
	title: "Mesh: execution",
	help: "Whether accepted work moves: from acceptance over claims, steps and commits to the feed that tells the world.",
	variables: [instance()],
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Shards with an owner",
					help: "Normal: 16. Fewer for longer than ten seconds: no process of `execution` takes them; see the alert's runbook.",
					unit: "short",
					queries: [{ expr: orZero(total("mesh_shards_owned")) }],
					steps: ["red", [16, "green"]],
				}),
				stat({
					title: "Open invocations",
					help: "Accepted, not ended. Normal: they come and go; those that wait for people or timers may stay for days.",
					unit: "short",
					queries: [{ expr: orZero(total("mesh_invocations_open")) }],
					links: [{ title: "In the web UI", url: "$mesh_url" }],
				}),
				stat({
					title: "Longest wait for a slot",
					help: "Normal: seconds. Minutes: an agent is paused, or has fewer slots than work; see Agents and cost.",
					unit: "s",
					queries: [{ expr: orZero("max(mesh_queue_age_seconds)") }],
					steps: ["green", [60, "orange"], [300, "red"]],
					links: [{ title: "Agents and cost", url: "/d/mesh-agents" }],
				}),
				stat({
					title: "New dead letters",
					help: "Within the time shown. Normal: 0. `mesh dead-letters` lists them with their reasons, and requeues them.",
					unit: "short",
					decimals: 0,
					queries: [{ expr: orZero(counted("mesh_dead_letters_total")) }],
					steps: ["green", [1, "red"]],
				}),
				stat({
					title: "Feed lag",
					help: "Committed batches not yet told. Normal: below 50. If it only grows, the relay stands: runbook of MeshFeedStuck.",
					unit: "short",
					queries: [{ expr: orZero(total("mesh_relay_lag")) }],
					steps: ["green", [50, "orange"], [200, "red"]],
				}),
				stat({
					title: "Shards of silent owners",
					help: "Taken over within the time shown. Normal: 0. Otherwise a process died, froze or lost Postgres; its work went on elsewhere.",
					unit: "short",
					decimals: 0,
					queries: [{ expr: orZero(counted("mesh_shard_takeovers_total", { where: 'reason="silent"' })) }],
				}),
			],
		},
		{
			title: "Invocations",
			panels: [
				series({
					title: "Accepted and ended",
					help: "Per second. Normal: both run together. Where accepted stays above ended, the queue grows.",
					unit: "ops",
					queries: [
						{ expr: perSecond("mesh_invocations_accepted_total", { by: ["by"], where: HERE }), legend: "accepted by {{by}}" },
						{ expr: perSecond("mesh_invocations_ended_total", { by: ["outcome"], where: HERE }), legend: "{{outcome}}" },
					],
				}),
				series({
					title: "Open by state",
					help: "Normal: most of them waiting or running. Many runnable ones: more slots or replicas are needed.",
					unit: "short",
					stacked: true,
					queries: [{ expr: total("mesh_invocations_open", { by: ["state"], where: HERE }), legend: "{{state}}" }],
				}),
				series({
					title: "Time from runnable to claimed",
					help: "Normal: below 10 ms for 99 % while slots are free. It counts the wait for a slot as well.",
					unit: "s",
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_dispatch_duration_seconds", { where: HERE }), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_dispatch_duration_seconds", { where: HERE }), legend: "99 %" },
					],
				}),
				series({
					title: "Refused",
					help: "Per second, by reason. Normal: few. The reason says what the caller, or a limit, has to change.",
					unit: "ops",
					queries: [{ expr: perSecond("mesh_invocations_refused_total", { by: ["reason"], where: HERE }), legend: "{{reason}}" }],
				}),
			],
		},
		{
			title: "Journal",
			panels: [
				series({
					title: "Steps recorded",
					help: "Per second, by kind. Normal: follows the invocations; none while work is open means that workers stand still.",
					unit: "ops",
					stacked: true,
					queries: [{ expr: perSecond("mesh_steps_recorded_total", { by: ["kind"], where: HERE }), legend: "{{kind}}" }],
				}),
				series({
					title: "Time of a commit",
					help: "Normal: below 10 ms for 99 %: one fsync of Postgres. Above 50 ms: look at its disk and at Postgres' dashboard.",
					unit: "s",
					steps: ["transparent", [0.05, "orange"]],
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_commit_duration_seconds", { where: HERE }), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_commit_duration_seconds", { where: HERE }), legend: "99 %" },
					],
					links: [{ title: "Postgres", url: "/d/mesh-postgres" }],
				}),
				series({
					title: "Commits and their size",
					help: "Batches per second by outcome, and rows of a batch. Normal: batches grow with load, so that the disk need not.",
					unit: "short",
					queries: [
						{ expr: perSecond("mesh_commits_total", { by: ["outcome"], where: HERE }), legend: "{{outcome}} per second" },
						{ expr: mean("mesh_commit_rows", { where: HERE }), legend: "rows of a batch" },
					],
				}),
				series({
					title: "Commands that wait for a lane",
					help: "Normal: 0 to some tens. Thousands: Postgres does not keep up; callers will be told to try again.",
					unit: "short",
					queries: [{ expr: total("mesh_commands_waiting", { by: ["instance"], where: HERE }), legend: "{{instance}}" }],
				}),
			],
		},
		{
			title: "Owners and workers",
			panels: [
				series({
					title: "Shards by process",
					help: "Normal: 16 together, about the same for each process. A process at 0 drains or has lost Postgres.",
					unit: "short",
					stacked: true,
					queries: [{ expr: total("mesh_shards_owned", { by: ["instance"], where: HERE }), legend: "{{instance}}" }],
				}),
				series({
					title: "Feed lag by process",
					help: "Committed batches not yet told. Normal: a few. Clients of the live feed see what is told only.",
					unit: "short",
					steps: ["transparent", [200, "red"]],
					queries: [{ expr: total("mesh_relay_lag", { by: ["instance"], where: HERE }), legend: "{{instance}}" }],
				}),
				series({
					title: "Work taken up again",
					help: "Journals read again, and claims that were lost. Normal: after waits and restarts. A steady rate of losses: nodes or processes die.",
					unit: "ops",
					queries: [
						{ expr: perSecond("mesh_replays_total", { by: ["reason"], where: HERE }), legend: "replay: {{reason}}" },
						{ expr: perSecond("mesh_leases_lost_total", { by: ["reason"], where: HERE }), legend: "claim lost: {{reason}}" },
						{ expr: perSecond("mesh_steps_repeated_total", { by: ["kind"], where: HERE }), legend: "unrecorded {{kind}} again" },
					],
				}),
				series({
					title: "Hosted workers at work",
					help: "Normal: below the slots of all agents. At their sum for long: raise `limits.concurrency` or add processes.",
					unit: "short",
					queries: [{ expr: total("mesh_workers_busy", { by: ["instance"], where: HERE }), legend: "{{instance}}" }],
				}),
			],
		},
	],
};
