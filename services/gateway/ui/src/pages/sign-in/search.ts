/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { texts } from "../../parts/search";

export interface SignInSearch {
	/** Where to go afterwards: a path of this site. */
	return_to?: string;
	/** What a provider's sign-in failed of, as a problem's type. */
	error?: string;
	/** One was signed in until the mesh refused to go on. */
	expired?: true;
}

/** Only a path of this very site: `//other.example`, `/\other.example` and `https://…` lead elsewhere. */
export function isLocalPath(path: string): boolean {
	return /^\/(?![/\\])[^\\\u0000-\u001f]*$/.test(path) && !path.startsWith("/sign-in");
}

export function signInSearch(given: Record<string, unknown>): SignInSearch {
	const { return_to, error } = texts(given, ["return_to", "error"]);
	return {
		...(return_to !== undefined && isLocalPath(return_to) ? { return_to } : {}),
		...(error === undefined ? {} : { error }),
		...(given.expired === true ? { expired: true } : {}),
	};
}
