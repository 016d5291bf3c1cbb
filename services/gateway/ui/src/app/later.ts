/** Parts of the page that are loaded later, each when it is needed, and what is done when one cannot be had. */
import { Failure } from "../api/problem";

const TYPE = "part-missing";

/** Most often the mesh was updated while the page was open, and the page asks for parts of a release that is gone. */
export function partMissing(): Failure {
	return new Failure({
		type: TYPE,
		title: "A part of this page could not be loaded",
		status: 0,
		detail: "The mesh was updated while this page was open, or it could not be reached.",
		next: "load the page anew",
	});
}

/** An import that says what its failure means: `later(() => import("./palette"))`. */
export function later<T>(load: () => Promise<T>): () => Promise<T> {
	return async () => {
		try {
			return await load();
		} catch {
			throw partMissing();
		}
	};
}

export function isPartMissing(error: unknown): boolean {
	return error instanceof Failure && error.problem.type === TYPE;
}

const RELOADED = "mesh.reloaded-at";
/** By itself a page is loaded anew at most once in this time: what fails then is shown. */
const AGAIN_MS = 5 * 60_000;

/** What `reloadOnce` asks of the browser; tests have their own. */
export interface Page {
	readonly kept: Pick<Storage, "getItem" | "setItem">;
	now(): number;
	/** Whether somebody's words would be lost. */
	isWriting(): boolean;
	/** Whether there is something to load it from. */
	isThere(): Promise<boolean>;
	reload(): void;
}

/** Loads the page anew, unless that was tried a moment ago, would lose what somebody writes, or cannot succeed. */
export async function reloadOnce(page: Page): Promise<boolean> {
	const isRecent = () => page.now() - Number(page.kept.getItem(RELOADED) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS;
	try {
		if (isRecent() || page.isWriting() || !(await page.isThere()) || isRecent()) return false;
		page.kept.setItem(RELOADED, String(page.now()));
	} catch {
		// A browser that keeps nothing cannot tell the second time from the first.
		return false;
	}
	page.reload();
	return true;
}

async function answers(): Promise<boolean> {
	const answer = await fetch("/", { method: "HEAD", cache: "no-store" }).catch(() => undefined);
	return answer?.ok ?? false;
}

export const thisPage: Page = {
	kept: {
		getItem: (key) => sessionStorage.getItem(key),
		setItem: (key, value) => sessionStorage.setItem(key, value),
	},
	now: Date.now,
	isWriting: () => Array.from(document.querySelectorAll("textarea")).some((area) => area.value !== ""),
	isThere: answers,
	reload: () => location.reload(),
};
