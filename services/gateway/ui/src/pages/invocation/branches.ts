/** A fork tree as a path and what branches off: `main > 6 …9F > 3 …B2`. Pure. */
import type { Invocation } from "./steps";

export interface Ancestor {
	readonly invocation: Invocation;
	/** The step of the one before at which it begins; none of the first. */
	readonly step?: number;
}

/** From the first of the tree down to `id`. What is not in `all` cuts the path short. */
export function pathTo(all: readonly Invocation[], id: string): Ancestor[] {
	const known = new Map(all.map((one) => [one.id, one]));
	const path: Ancestor[] = [];
	const seen = new Set<string>();
	for (let at: string | undefined = id; at !== undefined && !seen.has(at); ) {
		const invocation = known.get(at);
		if (!invocation) break;
		seen.add(at);
		const from = invocation.forked_from;
		path.push(from ? { invocation, step: from.step } : { invocation });
		at = from?.invocation;
	}
	return path.reverse();
}

/** The other invocations of the tree, newest first. */
export function othersOf(all: readonly Invocation[], path: readonly Ancestor[]): Invocation[] {
	const on = new Set(path.map((one) => one.invocation.id));
	return all.filter((one) => !on.has(one.id)).sort((a, b) => b.created_at.localeCompare(a.created_at));
}
