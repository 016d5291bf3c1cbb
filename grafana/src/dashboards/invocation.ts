/** One invocation by its id: its trace from Tempo, its logs from Loki, its steps from Postgres. */
import type * as cog from "@grafana/grafana-foundation-sdk/cog";
import * as common from "@grafana/grafana-foundation-sdk/common";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import * as logs from "@grafana/grafana-foundation-sdk/logs";
import * as tables from "@grafana/grafana-foundation-sdk/table";

import type { Board } from "../kit/board.js";
import { type AnyPanel, links } from "../kit/panels.js";

const POSTGRES = { type: "grafana-postgresql-datasource", uid: "postgres" } as const;
const TEMPO = { type: "tempo", uid: "tempo" } as const;
const LOKI = { type: "loki", uid: "loki" } as const;
/** What each span of an invocation carries. */
const ATTRIBUTE = "mesh.invocation.id";

/** A query of a data source for which the SDK has no builder, or one whose fields are all we need. */
const raw = (query: object): cog.Builder<cog.Dataquery> => ({ build: () => query as cog.Dataquery });

function rows(spec: { title: string; help: string; sql: string; width?: number; height?: number; link?: { title: string; url: string } }): AnyPanel {
	const panel = new tables.PanelBuilder()
		.title(spec.title)
		.description(spec.help)
		.unit("short")
		.datasource(POSTGRES)
		.span(spec.width ?? 24)
		.height(spec.height ?? 9)
		.withTarget(raw({ refId: "A", datasource: POSTGRES, format: "table", rawQuery: true, editorMode: "code", rawSql: spec.sql }));
	for (const [field, unit] of Object.entries({ duration: "s", cost_usd: "currencyUSD", step: "string", seq: "string", version: "string" }))
		panel.overrideByName(field, [{ id: "unit", value: unit }]);
	if (spec.link) panel.dataLinks(links([spec.link]));
	return panel;
}

export const invocation: Board = {
	uid: "mesh-invocation",
	title: "Mesh: one invocation",
	help: "Paste an id (inv_…), or choose one of the latest below: what it did, how long each step took, its trace and its logs.",
	from: "now-24h",
	variables: [new dashboard.TextBoxVariableBuilder("invocation").label("Invocation").defaultValue("")],
	rows: [
		{
			title: "What it is",
			panels: [
				rows({
					title: "Invocation",
					help: "Empty: no such id in this installation. Inputs and outputs are not told here: open it in the web UI.",
					height: 4,
					sql: "SELECT * FROM grafana.invocation(${invocation:sqlstring})",
					link: { title: "Time-travel debugger in the web UI", url: "$mesh_url/t/${__data.fields.tenant}/invocations/${__data.fields.id}" },
				}),
				rows({
					title: "Steps",
					help: "Records of the journal in their order. Normal: claimed once; several claims mean that a process or node was lost on the way.",
					height: 10,
					sql: "SELECT * FROM grafana.steps(${invocation:sqlstring})",
				}),
			],
		},
		{
			title: "What was seen of it",
			panels: [
				new tables.PanelBuilder()
					.title("Traces")
					.description("Normal: one, from the request to the last model call; children and forks are linked. None: not sampled, or no collector.")
					.unit("short")
					.datasource(TEMPO)
					.span(24)
					.height(6)
					.withTarget(
						raw({
							refId: "A",
							datasource: TEMPO,
							queryType: "traceql",
							query: `{ span.${ATTRIBUTE} = "\${invocation}" }`,
							limit: 20,
							tableType: "traces",
							filters: [],
						}),
					),
				new logs.PanelBuilder()
					.title("Logs")
					.description("Lines of all services that name it, oldest first. Normal: few. The trace id of a line leads to its trace, and a span there to every line of the trace.")
					.unit("short")
					.datasource(LOKI)
					.span(24)
					.height(10)
					.showTime(true)
					.wrapLogMessage(true)
					.enableLogDetails(true)
					.sortOrder(common.LogsSortOrder.Ascending)
					.dedupStrategy(common.LogsDedupStrategy.None)
					.withTarget(
						raw({ refId: "A", datasource: LOKI, queryType: "range", expr: '{service_name=~".+"} | invocation =~ ".+" | invocation = "${invocation}"', maxLines: 1000 }),
					),
			],
		},
		{
			title: "Others",
			panels: [
				rows({
					title: "The latest that failed",
					help: "Normal: none. A click opens one here.",
					width: 12,
					sql: "SELECT * FROM grafana.latest(ARRAY['failed', 'dead'])",
					link: { title: "Show this one", url: "/d/mesh-invocation?var-invocation=${__data.fields.id}" },
				}),
				rows({
					title: "The latest",
					help: "Of all tenants: who looks here operates the installation. A click opens one here.",
					width: 12,
					sql: "SELECT * FROM grafana.latest(NULL)",
					link: { title: "Show this one", url: "/d/mesh-invocation?var-invocation=${__data.fields.id}" },
				}),
			],
		},
	],
};
