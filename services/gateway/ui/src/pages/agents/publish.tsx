/** Publishing a draft: what differs from the live version, and what it does to what is open and placed, counted first. */
import { useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { Act } from "../../parts/act";
import { type AgentView, countsOf, keys, open, readAgent, keep } from "./data";
import { Difference } from "./difference";
import { type Draft, same } from "./draft";
import { writeSpec } from "./form/document";
import { counted } from "./words";
import css from "./agents.module.css";

interface PublishProps {
	readonly tenant: string;
	readonly view: AgentView;
	readonly draft: Draft;
	readonly liveSpec: unknown;
}

export function PublishAct({ tenant, view, draft, liveSpec }: PublishProps): ReactNode {
	const queries = useQueryClient();
	const name = view.metadata.name;
	const spec = (draft.value as { spec?: unknown } | undefined)?.spec ?? {};
	const run = async () => {
		const saved = draft.isChanged ? await draft.save() : view;
		// Somebody else was quicker: their version is shown beside mine instead.
		if (!saved) return;
		const params = { path: { agent: name }, header: { "If-Match": `"${saved.status.etag}"` } };
		await ask(client.POST("/api/v1/agents/{agent}/publish", { params }));
		await queries.invalidateQueries({ queryKey: keys.versions(tenant, name) });
		keep(queries, tenant, await readAgent(name));
	};
	const isNew = !view.status.published || view.status.draft || draft.isChanged;
	const barred =
		draft.marks.length > 0
			? "something is wrong in the draft: see the marks"
			: isNew
				? undefined
				: "the draft is the live version already";
	return (
		<Act
			label="Publish"
			least="developer"
			tone="primary"
			barred={barred}
			command={`mesh apply -f ${name}.yaml`}
			confirm={() => effect(view, liveSpec, spec)}
			yes={`Publish ${name}`}
			run={run}
		/>
	);
}

async function effect(view: AgentView, liveSpec: unknown, spec: unknown): Promise<ReactNode> {
	const name = view.metadata.name;
	const [counts, brain, versions] = await Promise.all([
		countsOf(name),
		ask(client.GET("/api/v1/brain/state")).catch(() => undefined),
		ask(client.GET("/api/v1/agents/{agent}/versions", { params: { path: { agent: name }, query: { limit: 100 } } })),
	]);
	const live = view.status.published?.version;
	const twin = versions.items.find((version) => same(version.spec, spec));
	const next = 1 + Math.max(0, ...versions.items.map(({ version }) => version));
	const placed = brain?.agents.find((one) => one.agent === name);
	const words = [
		twin ? `Publish v${twin.version} again:` : `Publish v${next}:`,
		live === undefined ? "the first version; it can be invoked from then on." : stays(open(counts), live),
		live === undefined ? "" : rolls(placed?.assigned ?? 0, live),
	];
	return (
		<div className={css.stack}>
			<p>{words.filter(Boolean).join(" ")}</p>
			<Difference
				label="Draft against the live version"
				before={liveSpec === undefined ? "" : writeSpec(liveSpec)}
				after={writeSpec(spec)}
			/>
		</div>
	);
}

function stays(count: number, live: number): string {
	if (count === 0) return "nothing is open;";
	return `${counted(count, "open invocation")} ${count === 1 ? "stays" : "stay"} on v${live} or what ${count === 1 ? "it" : "they"} began with;`;
}

function rolls(replicas: number, live: number): string {
	if (replicas === 0) return "no replica rolls, new invocations take it at once.";
	return `${counted(replicas, "replica")} ${replicas === 1 ? "rolls" : "roll"} from v${live}.`;
}
