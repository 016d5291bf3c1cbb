/** A dashboard: its frame, its variables, its rows, and how one leads to another. */
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";

import type { AnyPanel } from "./panels.js";

/** All dashboards carry it: links between them are found by it. */
export const TAG = "agent-mesh";

export type Variable = Parameters<dashboard.DashboardBuilder["withVariable"]>[0];

export interface Row {
	title: string;
	panels: readonly AnyPanel[];
}

export interface Board {
	uid: string;
	title: string;
	/** One sentence: which questions it answers. */
	help: string;
	variables?: readonly Variable[];
	/** Such as `now-1h`. */
	from?: string;
	rows: readonly Row[];
}

export function build(board: Board): dashboard.Dashboard {
	const builder = new dashboard.DashboardBuilder(board.title)
		.uid(board.uid)
		.description(board.help)
		.tags([TAG])
		.readonly()
		.timezone("browser")
		.refresh("30s")
		.time({ from: board.from ?? "now-1h", to: "now" })
		.tooltip(dashboard.DashboardCursorSync.Crosshair)
		.link(
			new dashboard.DashboardLinkBuilder("Dashboards")
				.type(dashboard.DashboardLinkType.Dashboards)
				.tags([TAG])
				.asDropdown(true)
				.keepTime(true)
				.includeVars(true),
		)
		.link(
			new dashboard.DashboardLinkBuilder("Web UI")
				.type(dashboard.DashboardLinkType.Link)
				.url("$mesh_url")
				.tooltip("The mesh itself: what runs, why it failed, what to do")
				.targetBlank(true),
		);
	for (const variable of [...(board.variables ?? []), prometheusSource(), meshUrl()]) builder.withVariable(variable);
	for (const row of board.rows) {
		builder.withRow(new dashboard.RowBuilder(row.title));
		for (const panel of row.panels) builder.withPanel(panel);
	}
	const built = builder.build();
	// Links name panels by their ids, so these are ours: the place within the dashboard.
	built.panels?.forEach((panel, at) => (panel.id = at + 1));
	return built;
}

/** Where the dashboard reads; another installation may name it otherwise. */
const prometheusSource = () =>
	new dashboard.DatasourceVariableBuilder("prometheus_datasource")
		.label("Prometheus")
		.type("prometheus")
		.current({ text: "Prometheus", value: "prometheus" });

/** For links to the web UI. Change it here where the gateway has another address. */
const meshUrl = () =>
	new dashboard.TextBoxVariableBuilder("mesh_url").label("Web UI").defaultValue("http://127.0.0.1:8000");

/** Values of a label, all of them at first. */
function labels(name: string, label: string, metric: string): Variable {
	return new dashboard.QueryVariableBuilder(name)
		.label(label)
		.datasource({ type: "prometheus", uid: "$prometheus_datasource" })
		.query(`label_values(${metric}, ${name === "service" ? "mesh_service" : name})`)
		.refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
		.sort(dashboard.VariableSort.AlphabeticalAsc)
		.multi(true)
		.includeAll(true)
		.allValue(".*")
		.current({ text: "All", value: "$__all" });
}

export const tenant = () =>
	labels("tenant", "Tenant", '{__name__=~"mesh_queue_waiting|mesh_agent_model_calls_total"}');
export const agent = () =>
	labels("agent", "Agent", '{__name__=~"mesh_queue_waiting|mesh_agent_model_calls_total",tenant=~"$tenant"}');
export const service = () => labels("service", "Service", '{__name__=~"mesh_loop_passes_total|mesh_http_requests_total"}');
export const instance = () => labels("instance", "Instance", 'up{job="mesh"}');
