/** The search part of the debugger's URL, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

export const TABS = ["wrote", "saw", "raw"] as const;
export type Tab = (typeof TABS)[number];
export const GROUPS = ["context", "model", "tool", "wait", "other"] as const;
/** What the kinds of steps are filtered by. */
export type Group = (typeof GROUPS)[number];

export interface DebuggerSearch {
	/** The step that is shown, from 1. */
	step?: number;
	/** The child whose step it is, where it is not this invocation's own. */
	of?: string;
	tab?: Tab;
	/** Without it: by order. */
	scale?: "time";
	/** Groups of kinds that are shown; without it all. */
	kinds?: readonly Group[];
	find?: string;
	/** The invocation that this one is held against. */
	compare?: string;
	/** The step that the fork dialog is open at. */
	fork?: number;
}

export function debuggerSearch(search: Record<string, unknown>): DebuggerSearch {
	const { find, compare, of } = texts(search, ["find", "compare", "of"]);
	const wanted = Array.isArray(search.kinds) ? search.kinds : [];
	const kinds = GROUPS.filter((group) => wanted.includes(group));
	return given<DebuggerSearch>({
		step: number(search.step),
		of: of?.startsWith("inv_") ? of : undefined,
		tab: one(search.tab, TABS),
		scale: one(search.scale, ["time"]),
		kinds: kinds.length > 0 ? kinds : undefined,
		find,
		compare: compare?.startsWith("inv_") ? compare : undefined,
		fork: number(search.fork),
	});
}

function number(value: unknown): number | undefined {
	const read = Number(value);
	return Number.isSafeInteger(read) && read > 0 ? read : undefined;
}
