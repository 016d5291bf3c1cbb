/** The panels of our dashboards: each has a title, a sentence of help, a unit and a data source, or it does not compile. */
import type * as cog from "@grafana/grafana-foundation-sdk/cog";
import * as common from "@grafana/grafana-foundation-sdk/common";
import * as dashboard from "@grafana/grafana-foundation-sdk/dashboard";
import * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";
import * as stats from "@grafana/grafana-foundation-sdk/stat";
import * as tables from "@grafana/grafana-foundation-sdk/table";
import * as timeseries from "@grafana/grafana-foundation-sdk/timeseries";

export type AnyPanel = cog.Builder<dashboard.Panel>;

/** Colours from a value on; the first counts from below. */
export type Steps = readonly [first: string, ...more: (readonly [from: number, color: string])[]];

export interface Query {
	expr: string;
	/** Such as `{{agent}}`. */
	legend?: string;
}

export interface Spec {
	title: string;
	/** What is normal, and what to do if it is not so. */
	help: string;
	/** Grafana's id of the unit. */
	unit: string;
	queries: readonly Query[];
	/** Of 24 columns. */
	width?: number;
	height?: number;
	steps?: Steps;
	max?: number;
	decimals?: number;
	/** Trace ids beside the curve: only for histograms. */
	exemplars?: boolean;
	stacked?: boolean;
	/** Where a click leads. */
	links?: readonly Link[];
}

export interface Link {
	title: string;
	url: string;
}

export const PROMETHEUS = { type: "prometheus", uid: "$prometheus_datasource" } as const;
const CALM: Steps = ["green"];

/** One number, with its recent course. */
export function stat(spec: Spec): AnyPanel {
	const panel = new stats.PanelBuilder()
		.title(spec.title)
		.description(spec.help)
		.unit(spec.unit)
		.datasource(PROMETHEUS)
		.span(spec.width ?? 4)
		.height(spec.height ?? 4)
		.graphMode(common.BigValueGraphMode.Area)
		.colorMode(common.BigValueColorMode.Value)
		.reduceOptions(new common.ReduceDataOptionsBuilder().calcs(["lastNotNull"]))
		.colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds))
		.thresholds(thresholds(spec.steps ?? CALM));
	if (spec.decimals !== undefined) panel.decimals(spec.decimals);
	if (spec.links) panel.dataLinks(links(spec.links));
	spec.queries.forEach((query, at) => panel.withTarget(target(query, at, false)));
	return panel;
}

/** Curves over time. */
export function series(spec: Spec): AnyPanel {
	const panel = new timeseries.PanelBuilder()
		.title(spec.title)
		.description(spec.help)
		.unit(spec.unit)
		.min(0)
		.datasource(PROMETHEUS)
		.span(spec.width ?? 12)
		.height(spec.height ?? 8)
		.lineWidth(2)
		.fillOpacity(spec.stacked ? 30 : 8)
		.showPoints(common.VisibilityMode.Never)
		.colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.PaletteClassic))
		.legend(
			new common.VizLegendOptionsBuilder()
				.displayMode(common.LegendDisplayMode.Table)
				.placement(common.LegendPlacement.Bottom)
				.showLegend(true)
				.calcs(["lastNotNull", "max"]),
		)
		.tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending))
		.thresholds(thresholds(spec.steps ?? CALM));
	if (spec.steps) panel.thresholdsStyle(new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed));
	if (spec.stacked) panel.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
	if (spec.max !== undefined) panel.max(spec.max);
	if (spec.decimals !== undefined) panel.decimals(spec.decimals);
	if (spec.links) panel.dataLinks(links(spec.links));
	spec.queries.forEach((query, at) => panel.withTarget(target(query, at, spec.exemplars ?? false)));
	return panel;
}

/** Rows of labels with one value each, as of the end of the time shown. */
export function table(spec: Spec): AnyPanel {
	const panel = new tables.PanelBuilder()
		.title(spec.title)
		.description(spec.help)
		.unit(spec.unit)
		.datasource(PROMETHEUS)
		.span(spec.width ?? 12)
		.height(spec.height ?? 8)
		.thresholds(thresholds(spec.steps ?? CALM))
		.transformations([
			{ id: "organize", options: { excludeByName: { Time: true }, indexByName: {}, renameByName: { Value: spec.title } } },
		]);
	if (spec.decimals !== undefined) panel.decimals(spec.decimals);
	if (spec.links) panel.dataLinks(links(spec.links));
	spec.queries.forEach((query, at) =>
		panel.withTarget(
			new prometheus.DataqueryBuilder()
				.refId(refId(at))
				.datasource(PROMETHEUS)
				.expr(query.expr)
				.instant()
				.format(prometheus.PromQueryFormat.Table),
		),
	);
	return panel;
}

export function thresholds([first, ...more]: Steps): dashboard.ThresholdsConfigBuilder {
	const base: dashboard.Threshold = { value: null, color: first };
	return new dashboard.ThresholdsConfigBuilder()
		.mode(dashboard.ThresholdsMode.Absolute)
		.steps([base, ...more.map(([value, color]) => ({ value, color }))]);
}

/** The SDK has no builder for the links of a field; these have its shape. */
export function links(all: readonly Link[]): cog.Builder<dashboard.DashboardLink>[] {
	return all.map(({ title, url }) => ({ build: () => ({ title, url, targetBlank: false }) as dashboard.DashboardLink }));
}

const refId = (at: number) => String.fromCharCode("A".charCodeAt(0) + at);

function target(query: Query, at: number, exemplars: boolean): prometheus.DataqueryBuilder {
	const builder = new prometheus.DataqueryBuilder().refId(refId(at)).datasource(PROMETHEUS).expr(query.expr).range();
	if (query.legend) builder.legendFormat(query.legend);
	if (exemplars) builder.exemplar(true);
	return builder;
}
