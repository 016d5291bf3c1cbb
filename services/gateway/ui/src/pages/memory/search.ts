/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

export const tabs = ["memories", "knowledge"] as const;
export const types = ["episodic", "semantic", "procedural", "working"] as const;

export interface MemorySearch {
	tab?: (typeof tabs)[number];
	q?: string;
	agent?: string;
	type?: (typeof types)[number];
	session?: string;
	user?: string;
	tag?: string;
	/** The memory that is open. */
	memory?: string;
	/** Of knowledge: the base, the open document, and the first character that is marked in it. */
	base?: string;
	document?: string;
	mark?: string;
}

const TEXTS = ["q", "agent", "session", "user", "tag", "memory", "base", "document", "mark"] as const;

export function memorySearch(from: Record<string, unknown>): MemorySearch {
	return given<MemorySearch>({ ...texts(from, TEXTS), tab: one(from.tab, tabs), type: one(from.type, types) } as never);
}
