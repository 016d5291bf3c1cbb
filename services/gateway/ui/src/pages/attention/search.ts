/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

export const KINDS = ["approval", "ambiguous", "dead"] as const;
export type Kind = (typeof KINDS)[number];

export interface AttentionSearch {
	/** Without it all kinds. */
	kind?: Kind;
	/** Dead letters of this reason only. */
	reason?: string;
	/** The marked item. */
	item?: string;
}

export function attentionSearch(search: Record<string, unknown>): AttentionSearch {
	const { reason, item } = texts(search, ["reason", "item"]);
	return given<AttentionSearch>({ kind: one(search.kind, KINDS), reason, item });
}
