/** Alerts on processes, servers and room. */
import type { Alert } from "./alert.js";

const GIB = 1024 ** 3;

export const servers: readonly Alert[] = [
	{
		name: "MeshServiceDown",
		severity: "critical",
		expr: 'sum by (service) (up{job="mesh"}) == 0 or (count by (service) (up{job="mesh"} offset 15m) unless count by (service) (up{job="mesh"}))',
		for: "2m",
		summary: "No process of {{ $labels.service }} answers",
		board: "mesh-overview",
		fires: {
			series: { 'up{job="mesh",service="registry",instance="a"}': "1x4 0x40" },
			at: "10m",
			labels: { service: "registry" },
			summary: "No process of registry answers",
		},
		// One of two is enough.
		quiet: {
			series: {
				'up{job="mesh",service="registry",instance="a"}': "0x40",
				'up{job="mesh",service="registry",instance="b"}': "1x40",
			},
			at: "10m",
		},
	},
	{
		name: "MeshPostgresDown",
		severity: "critical",
		expr: "max(mesh_postgres_up) == 0",
		for: "1m",
		summary: "Postgres does not answer: nothing is accepted until it does",
		board: "mesh-postgres",
		fires: {
			series: { 'mesh_postgres_up{instance="a"}': "1 0x20" },
			at: "5m",
			summary: "Postgres does not answer: nothing is accepted until it does",
		},
		// A process that cannot reach it does not speak for the others.
		quiet: { series: { 'mesh_postgres_up{instance="a"}': "0x20", 'mesh_postgres_up{instance="b"}': "1x20" }, at: "5m" },
	},
	{
		name: "MeshPostgresConnections",
		severity: "warning",
		expr: "max(mesh_postgres_connections) / max(mesh_postgres_connections_max) > 0.85",
		for: "5m",
		summary: "{{ $value | humanizePercentage }} of Postgres' connections are taken",
		board: "mesh-postgres",
		fires: {
			series: { "mesh_postgres_connections": "90x40", "mesh_postgres_connections_max": "100x40" },
			at: "10m",
			summary: "90% of Postgres' connections are taken",
		},
		quiet: { series: { "mesh_postgres_connections": "80x40", "mesh_postgres_connections_max": "100x40" }, at: "10m" },
	},
	{
		name: "MeshPostgresGrowth",
		severity: "warning",
		expr: `max(mesh_postgres_size_bytes{schema="all"}) - max(mesh_postgres_size_bytes{schema="all"} offset 1d) > ${20 * GIB}`,
		for: "15m",
		summary: "The database grew by {{ $value | humanize1024 }}B in a day",
		board: "mesh-postgres",
		fires: {
			series: { 'mesh_postgres_size_bytes{schema="all"}': `0+${GIB / 64}x3200` },
			at: "25h",
			summary: "The database grew by 45GiB in a day",
		},
		quiet: { series: { 'mesh_postgres_size_bytes{schema="all"}': `0+${GIB / 256}x3200` }, at: "25h" },
	},
	{
		name: "MeshNatsDown",
		severity: "critical",
		expr: "max by (server) (mesh_nats_server_up) == 0",
		for: "1m",
		summary: "The nats-server {{ $labels.server }} does not answer",
		board: "mesh-nats",
		fires: {
			series: { 'mesh_nats_server_up{server="nats",instance="a"}': "1 0x20" },
			at: "5m",
			labels: { server: "nats" },
			summary: "The nats-server nats does not answer",
		},
		quiet: { series: { 'mesh_nats_server_up{server="nats",instance="a"}': "1 0 1x20" }, at: "5m" },
	},
	{
		name: "MeshStreamFull",
		severity: "critical",
		expr: "max by (stream) (mesh_stream_bytes_bytes) / (max by (stream) (mesh_stream_bytes_max_bytes) > 0) > 0.8",
		for: "5m",
		summary: "The stream {{ $labels.stream }} is {{ $value | humanizePercentage }} full",
		board: "mesh-nats",
		fires: {
			series: {
				'mesh_stream_bytes_bytes{stream="INVOCATIONS"}': "900x40",
				'mesh_stream_bytes_max_bytes{stream="INVOCATIONS"}': "1000x40",
			},
			at: "10m",
			labels: { stream: "INVOCATIONS" },
			summary: "The stream INVOCATIONS is 90% full",
		},
		// -1 is a stream without a limit.
		quiet: {
			series: {
				'mesh_stream_bytes_bytes{stream="EVENTS"}': "900x40",
				'mesh_stream_bytes_max_bytes{stream="EVENTS"}': "-1x40",
				'mesh_stream_bytes_bytes{stream="JOURNAL"}': "700x40",
				'mesh_stream_bytes_max_bytes{stream="JOURNAL"}': "1000x40",
			},
			at: "10m",
		},
	},
	{
		name: "MeshConsumerLag",
		severity: "warning",
		expr: "max by (stream, consumer) (mesh_consumer_pending) > 10000",
		for: "10m",
		summary: "{{ $value }} messages of {{ $labels.stream }} wait for {{ $labels.consumer }}",
		board: "mesh-nats",
		fires: {
			series: { 'mesh_consumer_pending{stream="EVENTS",consumer="identity"}': "20000x60" },
			at: "20m",
			labels: { stream: "EVENTS", consumer: "identity" },
			summary: "20000 messages of EVENTS wait for identity",
		},
		quiet: { series: { 'mesh_consumer_pending{stream="EVENTS",consumer="identity"}': "20000x10 0x50" }, at: "20m" },
	},
	{
		name: "MeshDiskFull",
		severity: "critical",
		expr: `min by (volume) (mesh_disk_free_bytes) < ${2 * GIB}`,
		for: "5m",
		summary: "{{ $value | humanize1024 }}B are free on the volume {{ $labels.volume }}",
		board: "mesh-postgres",
		fires: {
			series: { 'mesh_disk_free_bytes{volume="data"}': `${GIB}x40` },
			at: "10m",
			labels: { volume: "data" },
			summary: "1GiB are free on the volume data",
		},
		quiet: { series: { 'mesh_disk_free_bytes{volume="data"}': `${3 * GIB}x40` }, at: "10m" },
	},
	{
		name: "MeshTaskPanics",
		severity: "warning",
		expr: "sum by (mesh_service, task) (increase(mesh_task_panics_total[15m])) > 0 or (sum by (mesh_service, task) (mesh_task_panics_total) unless sum by (mesh_service, task) (mesh_task_panics_total offset 15m)) > 0",
		for: "0s",
		summary: "The task {{ $labels.task }} of {{ $labels.mesh_service }} panicked",
		board: "mesh-overview",
		// A counter's first value is its first panic.
		fires: {
			series: { 'mesh_task_panics_total{mesh_service="memory",task="embed"}': "_x10 1x20" },
			at: "10m",
			labels: { mesh_service: "memory", task: "embed" },
			summary: "The task embed of memory panicked",
		},
		quiet: { series: { 'mesh_task_panics_total{mesh_service="memory",task="embed"}': "1x80" }, at: "30m" },
	},
];
