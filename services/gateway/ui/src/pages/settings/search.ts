/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

export const tabs = ["users", "keys", "tokens", "audit", "about"] as const;
export const outcomes = ["done", "refused"] as const;

export interface SettingsSearch {
	tab?: (typeof tabs)[number];
	/** Of the audit. */
	outcome?: (typeof outcomes)[number];
	action?: string;
	fact?: string;
}

export function settingsSearch(from: Record<string, unknown>): SettingsSearch {
	return given<SettingsSearch>({
		...texts(from, ["action", "fact"]),
		tab: one(from.tab, tabs),
		outcome: one(from.outcome, outcomes),
	} as never);
}
