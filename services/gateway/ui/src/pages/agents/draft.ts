/** The draft that is edited: one text, its reading, what is wrong with it, and how it is saved without losing another's. */
import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { ask, client, currentTenant, type Schema } from "../../api/client";
import { Failure, type Problem } from "../../api/problem";
import { type AgentView, isStale, keep, readAgent } from "./data";
import { check, type Issue } from "./form/check";
import { type Mark, marks, patch, type Reading, read, write } from "./form/document";
import { agentForm, parsePath, type Path } from "./form/form";

/** What is kept for a reload: the text, and what it was based on. */
interface Kept {
	readonly etag: string;
	readonly base: string;
	readonly text: string;
}

export interface Draft {
	readonly text: string;
	readonly value: unknown;
	readonly issues: readonly Issue[];
	/** The same, and what is no YAML, by place in the text. */
	readonly marks: readonly Mark[];
	/** Whether something is to be saved. */
	readonly isChanged: boolean;
	/** Whether somebody else saved meanwhile. */
	readonly isBehind: boolean;
	/** What somebody else saved, once a save was refused for it. */
	readonly theirs: AgentView | undefined;
	change(text: string): void;
	patch(path: Path, value: unknown): void;
	/** Throws a `Failure`, except where it makes `theirs`; then the answer is `undefined`. */
	save(): Promise<AgentView | undefined>;
	/** Mine on top of theirs. */
	takeMine(): Promise<AgentView | undefined>;
	takeTheirs(): void;
	/** Back to the editor, nothing decided. */
	decideLater(): void;
	/** Gives up what was not saved. */
	discard(): void;
}

/** The declared object of an answer: without its status. */
export function declared(view: AgentView): Schema["Agent"] {
	const { apiVersion, kind, metadata, spec } = view;
	return { apiVersion, kind, metadata, spec };
}

export function same(a: unknown, b: unknown): boolean {
	return JSON.stringify(stable(a)) === JSON.stringify(stable(b));
}

function stable(value: unknown): unknown {
	if (Array.isArray(value)) return value.map(stable);
	if (typeof value !== "object" || value === null) return value;
	return Object.fromEntries(
		Object.entries(value)
			.filter(([, item]) => item !== undefined && item !== null)
			.sort(([a], [b]) => (a < b ? -1 : 1))
			.map(([name, item]) => [name, stable(item)]),
	);
}

/** An issue from the server's problem, at the field that it names. */
export function issueOf(problem: Problem): Issue | undefined {
	if (problem.field === undefined) return undefined;
	const path = parsePath(problem.field);
	const words = problem.detail ?? problem.title;
	return { path, message: words.startsWith(`${problem.field} `) ? words.slice(problem.field.length + 1) : words };
}

function place(name: string): string {
	return `mesh.draft.${currentTenant()}.${name}`;
}

function remembered(view: AgentView): Kept {
	const text = write(declared(view));
	const fresh = { etag: view.status.etag, base: text, text };
	try {
		const held = JSON.parse(sessionStorage.getItem(place(view.metadata.name)) ?? "null") as Kept | null;
		return held && held.text !== held.base ? held : fresh;
	} catch {
		return fresh;
	}
}

function remember(name: string, kept: Kept): void {
	try {
		if (kept.text === kept.base) sessionStorage.removeItem(place(name));
		else sessionStorage.setItem(place(name), JSON.stringify(kept));
	} catch {
		// A browser that keeps nothing loses an unsaved draft on reload.
	}
}

interface Refused {
	readonly text: string;
	readonly issue: Issue;
}

/** What is wrong: by the form, by the name, and by the server as long as the text is the one that it refused. */
function useIssues(name: string, text: string, reading: Reading, refused: Refused | undefined): readonly Issue[] {
	return useMemo(() => {
		const own = reading.errors.length > 0 ? [] : check(reading.value, agentForm);
		const said = (reading.value as { metadata?: { name?: unknown } } | undefined)?.metadata?.name;
		const isRenamed = typeof said === "string" && said !== name;
		return [
			...own,
			...(isRenamed ? [{ path: ["metadata", "name"], message: `stays ${name}: names are for ever` }] : []),
			...(refused?.text === text && !own.some((issue) => same(issue.path, refused.issue.path)) ? [refused.issue] : []),
		];
	}, [name, text, reading, refused]);
}

export function useDraft(view: AgentView): Draft {
	const queries = useQueryClient();
	const name = view.metadata.name;
	const [kept, setKept] = useState(() => remembered(view));
	const [problem, setProblem] = useState<Refused>();
	const [theirs, setTheirs] = useState<AgentView>();
	const set = useCallback(
		(next: Kept) => {
			remember(name, next);
			setKept(next);
		},
		[name],
	);
	const { text, base } = kept;
	const reading = useMemo(() => read(text), [text]);
	const isChanged = useMemo(() => text !== base && !same(read(base).value, reading.value), [text, base, reading]);
	// Nothing of mine is lost by showing what somebody else saved.
	if (!isChanged && view.status.etag !== kept.etag && theirs === undefined) {
		const fresh = write(declared(view));
		const isSame = same(read(text).value, read(fresh).value);
		set({ etag: view.status.etag, base: isSame ? base : fresh, text: isSame ? text : fresh });
	}
	const issues = useIssues(name, text, reading, problem);
	const shown = useMemo(() => [...reading.errors, ...marks(text, issues)], [reading, text, issues]);

	const put = async (etag: string): Promise<AgentView | undefined> => {
		const path = { agent: name };
		const body = reading.value as Schema["Agent"];
		try {
			const saved = await ask(
				client.PUT("/api/v1/agents/{agent}", { params: { path, header: { "If-Match": `"${etag}"` } }, body }),
			);
			setTheirs(undefined);
			set({ etag: saved.status.etag, base: text, text });
			keep(queries, currentTenant(), saved);
			return saved;
		} catch (error) {
			if (isStale(error)) {
				const now = await readAgent(name);
				setTheirs(now);
				return undefined;
			}
			const issue = error instanceof Failure ? issueOf(error.problem) : undefined;
			if (issue) setProblem({ text, issue });
			throw error;
		}
	};

	return {
		text,
		value: reading.value,
		issues,
		marks: shown,
		isChanged,
		isBehind: isChanged && view.status.etag !== kept.etag,
		theirs,
		change: (next) => set({ ...kept, text: next }),
		patch: (path, value) => set({ ...kept, text: patch(text, path, value) }),
		save: () => put(kept.etag),
		takeMine: () => put(theirs?.status.etag ?? kept.etag),
		takeTheirs: () => {
			if (!theirs) return;
			const fresh = write(declared(theirs));
			setTheirs(undefined);
			set({ etag: theirs.status.etag, base: fresh, text: fresh });
			keep(queries, currentTenant(), theirs);
		},
		decideLater: () => setTheirs(undefined),
		discard: () => {
			const fresh = write(declared(view));
			setProblem(undefined);
			set({ etag: view.status.etag, base: fresh, text: fresh });
		},
	};
}
