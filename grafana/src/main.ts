/** Writes dashboards, alerts and their tests, or (`--check`) says which checked-in file is not what this code makes. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { stringify } from "yaml";

import { rules, ruleTests } from "./alerts/alert.js";
import { notices } from "./alerts/notices.js";
import { servers } from "./alerts/servers.js";
import { work } from "./alerts/work.js";
import { agents } from "./dashboards/agents.js";
import { execution } from "./dashboards/execution.js";
import { fleet } from "./dashboards/fleet.js";
import { invocation } from "./dashboards/invocation.js";
import { memory } from "./dashboards/memory.js";
import { nats } from "./dashboards/nats.js";
import { overview } from "./dashboards/overview.js";
import { postgres } from "./dashboards/postgres.js";
import { runbooks } from "./dashboards/runbooks.js";
import { build } from "./kit/board.js";

const HOME = join(dirname(fileURLToPath(import.meta.url)), "..");
const HEADER = "# Made by `npm run build` in grafana/ from grafana/src; change it there.\n";

const alerts = [...servers, ...work];
const runbook = (name: string) => readFileSync(join(HOME, "../docs/runbooks", name), "utf8");
const boards = [overview, execution, agents, fleet, memory, nats, postgres, invocation, runbooks(alerts, runbook)];

const yaml = (value: object) => HEADER + stringify(value, { lineWidth: 0 });

/** Path below grafana/, and what belongs there. */
const files = new Map<string, string>([
	...boards.map((board) => [`dashboards/${board.uid}.json`, `${JSON.stringify(build(board), null, "\t")}\n`] as const),
	["prometheus/rules/mesh.yml", yaml(rules(alerts))],
	["prometheus/tests/mesh.yml", yaml(ruleTests(alerts, "../rules/mesh.yml"))],
	["provisioning/alerting/mesh.yaml", yaml(notices())],
]);

if (process.argv.includes("--check")) check();
else write();

function write() {
	for (const [path, text] of files) {
		mkdirSync(dirname(join(HOME, path)), { recursive: true });
		writeFileSync(join(HOME, path), text);
	}
	console.log(`${files.size} files written`);
}

function check() {
	const wrong = [...files].filter(([path, text]) => !existsSync(join(HOME, path)) || readFileSync(join(HOME, path), "utf8") !== text);
	const extra = readdirSync(join(HOME, "dashboards")).filter((name) => !files.has(`dashboards/${name}`));
	for (const [path] of wrong) console.error(`grafana/${path} is not what grafana/src makes`);
	for (const name of extra) console.error(`grafana/dashboards/${name} is made by nothing in grafana/src`);
	if (wrong.length + extra.length > 0) {
		console.error("`npm run build` in grafana/ writes them");
		process.exit(1);
	}
	console.log(`${files.size} files are what grafana/src makes`);
}
