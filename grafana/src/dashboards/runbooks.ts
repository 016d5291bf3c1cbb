/** The runbooks of docs/runbooks as a dashboard, so that an alert leads to one without the internet. */
import * as text from "@grafana/grafana-foundation-sdk/text";

import { type Alert, slug } from "../alerts/alert.js";
import type { Board } from "../kit/board.js";

export const RUNBOOKS = "mesh-runbooks";

/** `read` gives the text of a file of docs/runbooks. */
export const runbooks = (alerts: readonly Alert[], read: (name: string) => string): Board => ({
	uid: RUNBOOKS,
	title: "Mesh: runbooks",
	help: "What each alert means, where to look, what to do, and how to know that it is over.",
	rows: [
		{
			title: "One for each alert",
			panels: alerts.map((alert) =>
				new text.PanelBuilder()
					.title(alert.name)
					.description(`The same text as docs/runbooks/${slug(alert)}.md.`)
					.span(12)
					.height(14)
					.transparent(true)
					.mode(text.TextMode.Markdown)
					.content(read(`${slug(alert)}.md`)),
			),
		},
	],
});

/** Panel of an alert: after the row, in the order of the alerts. */
export const panelOf = (at: number) => at + 2;
