/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { given, one, texts } from "../../parts/search";

export const tabs = ["services", "routes", "loops"] as const;

export interface ServicesSearch {
	tab?: (typeof tabs)[number];
	/** The service whose endpoints are shown. */
	service?: string;
}

export function servicesSearch(from: Record<string, unknown>): ServicesSearch {
	return given<ServicesSearch>({ tab: one(from.tab, tabs), service: texts(from, ["service"]).service });
}
