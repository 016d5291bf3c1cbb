/** NATS and JetStream as the mesh sees them; no exporter of its own is needed. */
import type { Board } from "../kit/board.js";
import { series, stat } from "../kit/panels.js";
import { highest, orZero, perSecond } from "../kit/promql.js";

const SHARE = `${highest("mesh_stream_bytes_bytes", { by: ["stream"] })} / (${highest("mesh_stream_bytes_max_bytes", { by: ["stream"] })} > 0)`;

export const nats: Board = {
	uid: "mesh-nats",
	title: "Mesh: NATS and JetStream",
	help: "Whether the servers are well, how full the streams are, and who does not keep up.",
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Servers that answer",
					help: "Normal: all of them (1, or 3 in a cluster). Otherwise: runbook of MeshNatsDown.",
					unit: "short",
					width: 6,
					queries: [{ expr: orZero("sum(max by (server) (mesh_nats_server_up))") }],
					steps: ["red", [1, "green"]],
				}),
				stat({
					title: "Fullest stream",
					help: "Of what it may take. Normal: below 60 %. At its limit a stream refuses work: runbook of MeshStreamFull.",
					unit: "percentunit",
					width: 6,
					queries: [{ expr: orZero(`max(${SHARE})`) }],
					steps: ["green", [0.6, "orange"], [0.8, "red"]],
				}),
				stat({
					title: "Cut for slowness",
					help: "Clients that did not read, since the server started. Normal: 0. Each lost its connection and came back.",
					unit: "short",
					width: 6,
					queries: [{ expr: orZero("sum(max by (server) (mesh_nats_slow_consumers))") }],
					steps: ["green", [1, "orange"]],
				}),
				stat({
					title: "Reconnects",
					help: "Of our processes, in the time shown. Normal: 0, save when a server was restarted.",
					unit: "short",
					decimals: 0,
					width: 6,
					queries: [{ expr: orZero("sum(increase(mesh_bus_reconnects_total[$__range]))") }],
				}),
			],
		},
		{
			title: "Servers",
			panels: [
				series({
					title: "Memory",
					help: "Resident, by server. Normal: some hundred MB. JOURNAL lies in memory in a cluster: its limit is part of this.",
					unit: "bytes",
					queries: [{ expr: highest("mesh_nats_server_memory_bytes", { by: ["server"] }), legend: "{{server}}" }],
				}),
				series({
					title: "Processor",
					help: "Cores in use, by server. Normal: well below 1; TLS and many small messages cost most.",
					unit: "short",
					decimals: 2,
					queries: [{ expr: `${highest("mesh_nats_server_cpu", { by: ["server"] })} / 1000`, legend: "{{server}}" }],
				}),
				series({
					title: "Clients",
					help: "Connections by server. Normal: one for each process and node. Thousands more: somebody opens one for each call.",
					unit: "short",
					queries: [{ expr: highest("mesh_nats_server_connections", { by: ["server"] }), legend: "{{server}}" }],
				}),
				series({
					title: "Traffic of our processes",
					help: "Bytes per second. Normal: follows the work. Far more in than out: somebody subscribes to too much.",
					unit: "Bps",
					queries: [{ expr: perSecond("mesh_nats_traffic_bytes_total", { by: ["mesh_service", "direction"] }), legend: "{{mesh_service}}: {{direction}}" }],
				}),
				series({
					title: "Events published",
					help: "Per second, by event. Normal: follows changes of agents, nodes and invocations.",
					unit: "ops",
					queries: [{ expr: perSecond("mesh_events_published_total", { by: ["event"] }), legend: "{{event}}" }],
				}),
			],
		},
		{
			title: "Streams",
			panels: [
				series({
					title: "How full",
					help: "Share of the bytes that a stream may take. Normal: below 60 %; INVOCATIONS near 0, as work is taken at once.",
					unit: "percentunit",
					max: 1,
					steps: ["transparent", [0.8, "red"]],
					queries: [{ expr: SHARE, legend: "{{stream}}" }],
				}),
				series({
					title: "Messages",
					help: "By stream. Normal: flat or a saw. INVOCATIONS that grows: intake does not take what clients publish.",
					unit: "short",
					queries: [{ expr: highest("mesh_stream_messages", { by: ["stream"] }), legend: "{{stream}}" }],
				}),
				series({
					title: "Not yet delivered",
					help: "By durable consumer. Normal: near 0. Above 10,000 for ten minutes the alert MeshConsumerLag fires.",
					unit: "short",
					steps: ["transparent", [10_000, "red"]],
					queries: [{ expr: highest("mesh_consumer_pending", { by: ["stream", "consumer"] }), legend: "{{stream}} / {{consumer}}" }],
				}),
				series({
					title: "Delivered, not acknowledged",
					help: "By durable consumer. Normal: what is being worked on. Always at the consumer's limit: its process hangs.",
					unit: "short",
					queries: [{ expr: highest("mesh_consumer_unacked", { by: ["stream", "consumer"] }), legend: "{{stream}} / {{consumer}}" }],
				}),
			],
		},
	],
};
