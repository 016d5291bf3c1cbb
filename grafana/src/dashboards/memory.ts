/** Searches of memory and calls of models. */
import { type Board } from "../kit/board.js";
import { series, stat } from "../kit/panels.js";
import { counted, highest, mean, orZero, perSecond, quantile, share, total } from "../kit/promql.js";

export const memory: Board = {
	uid: "mesh-memory",
	title: "Mesh: memory and inference",
	help: "How fast memories are found, and how the model providers do.",
	rows: [
		{
			title: "Is it well?",
			panels: [
				stat({
					title: "Providers that rest",
					help: "Whose circuit is open. Normal: 0. Calls go to the fallbacks meanwhile; `mesh doctor` says what the provider answers.",
					unit: "short",
					width: 6,
					queries: [{ expr: orZero("count(max by (provider) (mesh_model_circuit) == 2)") }],
					steps: ["green", [1, "red"]],
				}),
				stat({
					title: "Model calls that fail",
					help: "Share of all. Normal: below 1 %. Otherwise: keys, limits or the provider; the panel below names which.",
					unit: "percentunit",
					decimals: 1,
					width: 6,
					queries: [
						{ expr: orZero(share(perSecond("mesh_model_calls_total", { where: 'outcome!="ok"' }), perSecond("mesh_model_calls_total"))) },
					],
					steps: ["green", [0.01, "orange"], [0.1, "red"]],
				}),
				stat({
					title: "Answered from the cache",
					help: "Share of the requests that allowed it. Normal: what your evaluations repeat; 0 where nobody asks for it.",
					unit: "percentunit",
					width: 6,
					queries: [
						{
							expr: orZero(share(counted("mesh_model_cache_total", { where: 'outcome="hit"' }), counted("mesh_model_cache_total"))),
						},
					],
				}),
				stat({
					title: "Searches of memory",
					help: "Per second. Normal: about one a model step of an agent that remembers.",
					unit: "ops",
					width: 6,
					queries: [{ expr: orZero(perSecond("mesh_memory_queries_total")) }],
				}),
			],
		},
		{
			title: "Models",
			panels: [
				series({
					title: "Calls by provider and outcome",
					help: "Per second. Normal: ok. Anything else is tried again or goes to a fallback; if it lasts, look at the provider's status page.",
					unit: "ops",
					stacked: true,
					queries: [{ expr: perSecond("mesh_model_calls_total", { by: ["provider", "outcome"] }), legend: "{{provider}}: {{outcome}}" }],
				}),
				series({
					title: "Time of a call",
					help: "99 % by provider. Normal: seconds. Minutes: the provider is overloaded; timeouts are configured per agent.",
					unit: "s",
					exemplars: true,
					queries: [{ expr: quantile(0.99, "mesh_model_duration_seconds", { by: ["provider"] }), legend: "{{provider}}" }],
				}),
				series({
					title: "Tokens",
					help: "Per second, by provider and direction. Normal: below the limits of your contract.",
					unit: "short",
					queries: [{ expr: perSecond("mesh_model_tokens_total", { by: ["provider", "direction"] }), legend: "{{provider}}: {{direction}}" }],
				}),
				series({
					title: "Waiting for their turn, and not made",
					help: "Normal: 0. Waiting: our own limits hold calls back. Not made: the provider rests or all turns are taken.",
					unit: "short",
					queries: [
						{ expr: total("mesh_model_waiting", { by: ["provider"] }), legend: "waiting for {{provider}}" },
						{ expr: perSecond("mesh_model_refusals_total", { by: ["provider", "reason"] }), legend: "{{provider}}: {{reason}} per second" },
					],
				}),
				series({
					title: "Circuits",
					help: "0 closed, 1 half open, 2 open. Normal: 0. One that flaps: the provider answers now and then only.",
					unit: "short",
					max: 2,
					queries: [{ expr: highest("mesh_model_circuit", { by: ["provider"] }), legend: "{{provider}}" }],
				}),
			],
		},
		{
			title: "Memory",
			panels: [
				series({
					title: "Searches by outcome",
					help: "Per second. Normal: ok. Others: the log of `memory` says why; agents go on without what they would have remembered.",
					unit: "ops",
					queries: [{ expr: perSecond("mesh_memory_queries_total", { by: ["outcome"] }), legend: "{{outcome}}" }],
				}),
				series({
					title: "Time of a search",
					help: "Normal: below 50 ms for 99 %, with the embedding of the question. Above: look at embedding and at Postgres' cache.",
					unit: "s",
					exemplars: true,
					queries: [
						{ expr: quantile(0.5, "mesh_memory_query_duration_seconds"), legend: "half of them" },
						{ expr: quantile(0.99, "mesh_memory_query_duration_seconds"), legend: "99 %" },
					],
				}),
				series({
					title: "Memories stored",
					help: "Per second, by type. Normal: follows the conversations.",
					unit: "ops",
					stacked: true,
					queries: [{ expr: perSecond("mesh_memories_stored_total", { by: ["type"] }), legend: "{{type}}" }],
				}),
				series({
					title: "Time to embed a batch",
					help: "Mean. Normal: tens of milliseconds on the processor. No embedder: memories are found by their words, and embedded later.",
					unit: "s",
					queries: [{ expr: mean("mesh_embedding_duration_seconds"), legend: "mean" }],
				}),
			],
		},
	],
};
