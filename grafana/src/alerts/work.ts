/** Alerts on invocations, agents and the fleet. */
import type { Alert } from "./alert.js";

/** What a tenant may spend in a day without anybody being told; change it to what you plan. */
const DOLLARS_A_DAY = 100;
/** Shards of an installation: rows of execution.shard. */
const SHARDS = 16;

export const work: readonly Alert[] = [
	{
		name: "MeshQueueLag",
		severity: "warning",
		expr: "max by (tenant, agent) (mesh_queue_age_seconds) > 300",
		for: "1m",
		summary: "Work of {{ $labels.tenant }}/{{ $labels.agent }} waits for a slot since {{ $value | humanizeDuration }}",
		board: "mesh-agents",
		fires: {
			series: { 'mesh_queue_age_seconds{tenant="acme",agent="sofia",instance="a"}': "0+30x20" },
			at: "10m",
			labels: { tenant: "acme", agent: "sofia" },
			summary: "Work of acme/sofia waits for a slot since 10m 0s",
		},
		quiet: { series: { 'mesh_queue_age_seconds{tenant="acme",agent="sofia",instance="a"}': "290x20" }, at: "10m" },
	},
	{
		name: "MeshDeadLetters",
		severity: "warning",
		expr: "sum by (origin) (increase(mesh_dead_letters_total[15m])) > 0 or (sum by (origin) (mesh_dead_letters_total) unless sum by (origin) (mesh_dead_letters_total offset 15m)) > 0",
		for: "0s",
		summary: "New dead letters of {{ $labels.origin }}",
		board: "mesh-execution",
		// A counter's first value is its first dead letter.
		fires: {
			series: { 'mesh_dead_letters_total{origin="invocation",instance="a"}': "_x10 1x20" },
			at: "10m",
			labels: { origin: "invocation" },
			summary: "New dead letters of invocation",
		},
		quiet: { series: { 'mesh_dead_letters_total{origin="invocation",instance="a"}': "0x10 1x80" }, at: "30m" },
	},
	{
		name: "MeshFeedStuck",
		severity: "critical",
		expr: "sum by (instance) (min_over_time(mesh_relay_lag[5m])) > 200 or sum by (instance) (mesh_relay_lag and (changes(mesh_relay_lag[5m]) == 0 and min_over_time(mesh_relay_lag[5m]) > 0 and mesh_relay_lag offset 5m > 0)) > 0",
		for: "0s",
		summary: "The feed of {{ $labels.instance }} stands still: {{ $value }} committed batches are not told",
		board: "mesh-execution",
		// One batch that never goes is as stuck as many.
		fires: {
			series: { 'mesh_relay_lag{instance="a"}': "0x10 3x20" },
			at: "14m",
			labels: { instance: "a" },
			summary: "The feed of a stands still: 3 committed batches are not told",
		},
		quiet: { series: { 'mesh_relay_lag{instance="a"}': "3 7 1 9 2 8 3 7 1 9 2 8 3 7 1 9 2 8 3 7 1 9 2 8 3 7 1 9 2 8" }, at: "14m" },
	},
	{
		name: "MeshShardsUnowned",
		severity: "critical",
		expr: `sum(mesh_shards_owned) < ${SHARDS}`,
		for: "1m",
		summary: `{{ $value }} of ${SHARDS} shards have an owner: work of the others waits`,
		board: "mesh-execution",
		fires: {
			series: { 'mesh_shards_owned{instance="a"}': "8x20", 'mesh_shards_owned{instance="b"}': "8x4 0x16" },
			at: "5m",
			summary: `8 of ${SHARDS} shards have an owner: work of the others waits`,
		},
		// A takeover takes seconds.
		quiet: { series: { 'mesh_shards_owned{instance="a"}': "16x4 0 16x20" }, at: "5m" },
	},
	{
		name: "MeshHttpErrors",
		severity: "critical",
		expr: 'sum(rate(mesh_http_requests_total{status=~"5.."}[5m])) / sum(rate(mesh_http_requests_total[5m])) > 0.05 and sum(increase(mesh_http_requests_total{status=~"5.."}[5m])) > 10',
		for: "2m",
		summary: "{{ $value | humanizePercentage }} of HTTP requests fail by our fault",
		board: "mesh-overview",
		fires: {
			series: { 'mesh_http_requests_total{status="200"}': "0+90x40", 'mesh_http_requests_total{status="503"}': "0+10x40" },
			at: "10m",
			summary: "10% of HTTP requests fail by our fault",
		},
		// A single failure of a quiet hour wakes nobody.
		quiet: { series: { 'mesh_http_requests_total{status="503"}': "0x10 1x30" }, at: "10m" },
	},
	{
		name: "MeshInvocationErrors",
		severity: "warning",
		expr: 'sum(rate(mesh_invocations_ended_total{outcome=~"failed|dead"}[10m])) / sum(rate(mesh_invocations_ended_total[10m])) > 0.2 and sum(increase(mesh_invocations_ended_total{outcome=~"failed|dead"}[10m])) > 10',
		for: "5m",
		summary: "{{ $value | humanizePercentage }} of invocations fail",
		board: "mesh-execution",
		fires: {
			series: {
				'mesh_invocations_ended_total{outcome="completed"}': "0+10x60",
				'mesh_invocations_ended_total{outcome="failed"}': "0+10x60",
			},
			at: "20m",
			summary: "50% of invocations fail",
		},
		quiet: {
			series: {
				'mesh_invocations_ended_total{outcome="completed"}': "0+90x60",
				'mesh_invocations_ended_total{outcome="failed"}': "0+10x60",
			},
			at: "20m",
		},
	},
	{
		name: "MeshModelResting",
		severity: "warning",
		expr: "max by (provider) (mesh_model_circuit) == 2",
		for: "5m",
		summary: "The model provider {{ $labels.provider }} fails: calls go to fallbacks, or wait",
		board: "mesh-memory",
		fires: {
			series: { 'mesh_model_circuit{provider="openai"}': "2x40" },
			at: "10m",
			labels: { provider: "openai" },
			summary: "The model provider openai fails: calls go to fallbacks, or wait",
		},
		quiet: { series: { 'mesh_model_circuit{provider="openai"}': "2x4 1 0x40" }, at: "10m" },
	},
	{
		name: "MeshBudget",
		severity: "warning",
		expr: `sum by (tenant) (increase(mesh_agent_cost_total[1d])) / 1000000 > ${DOLLARS_A_DAY}`,
		for: "0s",
		summary: "The agents of {{ $labels.tenant }} spent {{ $value | printf \"%.0f\" }} US dollars within a day",
		board: "mesh-agents",
		fires: {
			series: {
				'mesh_agent_cost_total{tenant="acme",agent="sofia"}': "0+50000x2880",
				'mesh_agent_cost_total{tenant="acme",agent="poet"}': "0+10000x2880",
			},
			at: "24h",
			labels: { tenant: "acme" },
			summary: "The agents of acme spent 173 US dollars within a day",
		},
		quiet: { series: { 'mesh_agent_cost_total{tenant="acme",agent="sofia"}': "0+30000x2880" }, at: "24h" },
	},
	{
		name: "MeshNodesLost",
		severity: "warning",
		expr: 'sum(max by (status) (mesh_nodes{status=~"offline|deaf"})) > 0',
		for: "1m",
		summary: "{{ $value }} nodes are lost",
		board: "mesh-fleet",
		// Two processes that say the same are not four nodes.
		fires: {
			series: { 'mesh_nodes{status="offline",instance="a"}': "0 2x20", 'mesh_nodes{status="offline",instance="b"}': "0 2x20" },
			at: "5m",
			summary: "2 nodes are lost",
		},
		quiet: { series: { 'mesh_nodes{status="sleep",instance="a"}': "1x20", 'mesh_nodes{status="online",instance="a"}': "2x20" }, at: "5m" },
	},
	{
		name: "MeshDrift",
		severity: "warning",
		expr: "max(mesh_reconciler_drift_age_seconds) > 300",
		for: "30s",
		summary: "What runs differs from what should run since {{ $value | humanizeDuration }}",
		board: "mesh-fleet",
		fires: {
			series: { 'mesh_reconciler_drift_age_seconds{instance="a"}': "0+30x30" },
			at: "12m",
			summary: "What runs differs from what should run since 12m 0s",
		},
		quiet: { series: { 'mesh_reconciler_drift_age_seconds{instance="a"}': "280x30" }, at: "12m" },
	},
	{
		name: "MeshNoReconcilerLeader",
		severity: "critical",
		expr: "sum(mesh_reconciler_leads) != 1",
		for: "2m",
		summary: "{{ $value }} reconcilers lead: it must be one",
		board: "mesh-fleet",
		fires: {
			series: { 'mesh_reconciler_leads{instance="a"}': "0x20", 'mesh_reconciler_leads{instance="b"}': "0x20" },
			at: "5m",
			summary: "0 reconcilers lead: it must be one",
		},
		quiet: { series: { 'mesh_reconciler_leads{instance="a"}': "1x20", 'mesh_reconciler_leads{instance="b"}': "0x20" }, at: "5m" },
	},
];
