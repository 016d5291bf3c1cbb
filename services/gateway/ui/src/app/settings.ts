/** What this browser remembers of how its reader likes the UI. Nothing secret is kept here. */
import { createStore, type Store } from "./store";

function kept(key: string, initial: boolean): Store<boolean> {
	const read = () => {
		try {
			return (localStorage.getItem(key) ?? (initial ? "1" : "0")) === "1";
		} catch {
			return initial;
		}
	};
	const store = createStore(read());
	store.subscribe(() => {
		try {
			localStorage.setItem(key, store.get() ? "1" : "0");
		} catch {
			// A browser that keeps nothing still has the choice for as long as the page is open.
		}
	});
	return store;
}

/** Times are said in UTC. */
export const isUtc = kept("mesh.utc", false);
/** Single letters are commands; who dictates or uses a reader may turn that off (WCAG 2.1.4). */
export const hasLetters = kept("mesh.letters", true);
/** Rows of 36 px instead of 28. */
export const isComfortable = kept("mesh.comfortable", false);
