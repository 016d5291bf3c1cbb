/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { texts } from "../../parts/search";

export interface ReconcilerSearch {
	agent?: string;
	/** The pass that is open. */
	pass?: string;
}

export function reconcilerSearch(given: Record<string, unknown>): ReconcilerSearch {
	return texts(given, ["agent", "pass"]);
}
