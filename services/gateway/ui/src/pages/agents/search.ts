/** The search parts of these pages' URLs, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

const SHOWN = ["unwell", "draft", "paused"] as const;
const TABS = ["versions", "try"] as const;
const VIEWS = ["form", "yaml"] as const;

export interface AgentsSearch {
	/** Part of a name, a label or a model. */
	q?: string;
	show?: (typeof SHOWN)[number];
}

export function agentsSearch(said: Record<string, unknown>): AgentsSearch {
	return given<AgentsSearch>({ q: texts(said, ["q"]).q, show: one(said.show, SHOWN) });
}

export interface AgentSearch {
	/** Absent: the editor. */
	tab?: (typeof TABS)[number];
	/** Of the editor, where only one side has room. Absent: the form. */
	view?: (typeof VIEWS)[number];
	/** The version that is looked at. */
	version?: number;
	/** The version that it is held against; 0 is the draft. */
	diff?: number;
	/** Session of the trial. */
	session?: string;
}

function count(value: unknown): number | undefined {
	const number = typeof value === "string" ? Number(value) : value;
	return typeof number === "number" && Number.isInteger(number) && number >= 0 ? number : undefined;
}

export function agentSearch(said: Record<string, unknown>): AgentSearch {
	return given<AgentSearch>({
		tab: one(said.tab, TABS),
		view: one(said.view, VIEWS),
		version: count(said.version),
		diff: count(said.diff),
		session: texts(said, ["session"]).session,
	});
}
