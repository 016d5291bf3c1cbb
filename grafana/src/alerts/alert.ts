/** What an alert is, as a rule of Prometheus and as tests of promtool. */
import { panelOf, RUNBOOKS } from "../dashboards/runbooks.js";

export interface Alert {
	/** `Mesh…`; the runbook is docs/runbooks/<the rest in kebab case>.md. */
	name: string;
	/** Critical wakes somebody; a warning waits for the morning. */
	severity: "critical" | "warning";
	expr: string;
	/** How long it must hold. */
	for: string;
	/** Names the thing. */
	summary: string;
	/** The dashboard that shows it. */
	board: string;
	fires: Case & { labels?: Record<string, string>; summary: string };
	quiet: Case;
}

export interface Case {
	/** Series and their values in promtool's notation, one each 30 s. */
	series: Record<string, string>;
	at: string;
}

/** `MeshQueueLag`: `queue-lag`. */
export const slug = (alert: Alert) =>
	alert.name
		.replace(/^Mesh/, "")
		.replace(/([a-z])([A-Z])/g, "$1-$2")
		.toLowerCase();

/** Where people find Grafana stands in prometheus.yml. */
const GRAFANA = "http://127.0.0.1:3001";

const annotations = (alert: Alert, at: number, summary: string, grafana: string) => ({
	summary,
	runbook_url: `${grafana}/d/${RUNBOOKS}?viewPanel=panel-${panelOf(at)}`,
	runbook: `docs/runbooks/${slug(alert)}.md`,
	dashboard_url: `${grafana}/d/${alert.board}`,
});

export const rules = (alerts: readonly Alert[]) => ({
	groups: [
		{
			name: "mesh",
			interval: "15s",
			rules: alerts.map((alert, at) => ({
				alert: alert.name,
				expr: alert.expr,
				for: alert.for,
				labels: { severity: alert.severity },
				annotations: annotations(alert, at, alert.summary, "{{ $externalLabels.grafana }}"),
			})),
		},
	],
});

/** Each alert fires where it must, not where it must not, and none does because nobody collects telemetry. */
export const ruleTests = (alerts: readonly Alert[], file: string) => ({
	rule_files: [file],
	evaluation_interval: "30s",
	tests: [
		...alerts.flatMap((alert, at) => [
			test(`${alert.name} fires`, alert.fires, [
				{
					eval_time: alert.fires.at,
					alertname: alert.name,
					exp_alerts: [
						{
							exp_labels: { severity: alert.severity, ...alert.fires.labels },
							exp_annotations: annotations(alert, at, alert.fires.summary, GRAFANA),
						},
					],
				},
			]),
			test(`${alert.name} does not fire`, alert.quiet, [{ eval_time: alert.quiet.at, alertname: alert.name, exp_alerts: [] }]),
		]),
		test(
			"no collector, no Tempo and no Loki are no alert",
			{ series: { 'up{job="mesh",service="registry",instance="registry"}': "1x60", 'up{job="collector",instance="collector"}': "0x60" }, at: "20m" },
			alerts.map((alert) => ({ eval_time: "20m", alertname: alert.name, exp_alerts: [] })),
		),
	],
});

const test = (name: string, given: Case, expected: object[]) => ({
	name,
	interval: "30s",
	external_labels: { grafana: GRAFANA },
	input_series: Object.entries(given.series).map(([series, values]) => ({ series, values })),
	alert_rule_test: expected,
});
