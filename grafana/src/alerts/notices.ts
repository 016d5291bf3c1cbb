/** Prometheus decides what fires; this one rule of Grafana hands each of its alerts to Grafana's contact points. */

/** In the form of Grafana's provisioning. */
export const notices = () => ({
	apiVersion: 1,
	groups: [
		{
			orgId: 1,
			name: "mesh",
			folder: "Agent Mesh",
			interval: "30s",
			rules: [
				{
					uid: "mesh-alerts",
					title: "An alert of the mesh fires",
					condition: "B",
					data: [
						{
							refId: "A",
							relativeTimeRange: { from: 60, to: 0 },
							datasourceUid: "prometheus",
							model: { refId: "A", instant: true, expr: NOTICES },
						},
						{
							refId: "B",
							relativeTimeRange: { from: 60, to: 0 },
							datasourceUid: "__expr__",
							model: {
								refId: "B",
								type: "threshold",
								expression: "A",
								conditions: [{ evaluator: { type: "gt", params: [0] } }],
							},
						},
					],
					// Nothing fires: Prometheus has no such series then.
					noDataState: "OK",
					execErrState: "Error",
					for: "0s",
					labels: { mesh: "true" },
					annotations: {
						summary: "{{ $labels.alert }} ({{ $labels.severity }}): the dashboard Mesh: runbooks says what to do",
						runbook_url: "/d/mesh-runbooks",
					},
				},
			],
		},
	],
});

/** One series for each alert and what it is about. The name goes on under another label, as Grafana sets its own. */
const NOTICES =
	'max without (alertname, alertstate) (label_replace(ALERTS{alertstate="firing",alertname=~"Mesh.+"}, "alert", "$1", "alertname", "(.+)"))';
