/** The search part of these pages' URLs, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

export const modes = ["private", "shared", "sleep"] as const;
export const whose = ["own", "others"] as const;

export interface NodesSearch {
	mode?: (typeof modes)[number];
	whose?: (typeof whose)[number];
	q?: string;
}

export function nodesSearch(from: Record<string, unknown>): NodesSearch {
	return given<NodesSearch>({
		mode: one(from.mode, modes),
		whose: one(from.whose, whose),
		q: texts(from, ["q"]).q,
	});
}

export type NodeSearch = Record<never, never>;

export function nodeSearch(_given: Record<string, unknown>): NodeSearch {
	return {};
}
