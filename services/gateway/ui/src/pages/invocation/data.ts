/** What the debugger reads, and how pushes keep it current: one body at a time, however long the recording is. */
import { type QueryClient, queryOptions, useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ask, client } from "../../api/client";
import { queries } from "../../app/queries";
import { type Push, useTopic } from "../../live/live";
import { readBody } from "./body-read";
import { mergedSteps, momentOf, patched, stepOf, withMoment } from "./merge";
import type { Invocation, Moment, Step } from "./steps";
import { Streams } from "./stream";

const PAGE = 500;
/** Pages that are asked for at once. */
const AT_ONCE = 4;
const BRANCHES_MAX = 100;

export const keys = {
	one: (tenant: string, id: string) => [tenant, "invocation", id] as const,
	steps: (tenant: string, id: string) => [tenant, "invocation", id, "steps"] as const,
	history: (tenant: string, id: string) => [tenant, "invocation", id, "history"] as const,
	body: (tenant: string, id: string, step: number) => [tenant, "invocation", id, "body", step] as const,
};

export function invocationOf(tenant: string, id: string) {
	return queryOptions({
		queryKey: [...keys.one(tenant, id), "itself"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/invocations/{id}", { signal, params: { path: { id } } })),
	});
}

async function page(id: string, after: string | undefined, signal: AbortSignal | undefined) {
	const query = { bodies: false, limit: PAGE, ...(after === undefined ? {} : { after }) };
	const read = client.GET("/api/v1/invocations/{id}/steps", {
		params: { path: { id }, query },
		...(signal ? { signal } : {}),
	});
	return await ask(read);
}

/** All steps without bodies. The first page is shown while the others come. */
export function stepsOf(tenant: string, id: string) {
	const queryKey = keys.steps(tenant, id);
	return queryOptions({
		queryKey,
		queryFn: async ({ signal }): Promise<readonly Step[]> => {
			const first = await page(id, undefined, signal);
			const known = () => queries.getQueryData<readonly Step[]>(queryKey) ?? [];
			let steps = mergedSteps(known(), first.items);
			let next = first.next ?? undefined;
			if (next !== undefined) queries.setQueryData(queryKey, steps);
			while (next !== undefined) {
				const last = steps.at(-1)?.number ?? 0;
				// The cursor is the number of the last step: where it is so, pages need not wait for each other.
				const isNumber: boolean = next === String(last);
				const wave: string[] = isNumber ? Array.from({ length: AT_ONCE }, (_, index) => String(last + index * PAGE)) : [next];
				const pages = await Promise.all(wave.map((after) => page(id, after, signal)));
				const whole = pages.findIndex((one) => !one.next);
				for (const one of whole < 0 ? pages : pages.slice(0, whole + 1)) steps = mergedSteps(steps, one.items);
				next = whole < 0 ? (pages.at(-1)?.next ?? undefined) : undefined;
			}
			return mergedSteps(steps, known());
		},
		// `mergedSteps` keeps what is the same; to compare all of it again takes longer than to read it.
		structuralSharing: false,
	});
}

export function historyOf(tenant: string, id: string) {
	return queryOptions({
		queryKey: keys.history(tenant, id),
		queryFn: async ({ signal }): Promise<readonly Moment[]> => {
			let history: readonly Moment[] = [];
			let after: string | undefined;
			do {
				const query = { limit: PAGE, ...(after === undefined ? {} : { after }) };
				const read = client.GET("/api/v1/invocations/{id}/history", { signal, params: { path: { id }, query } });
				const { items, next } = await ask(read);
				history = [...history, ...items];
				after = next ?? undefined;
			} while (after !== undefined);
			return history;
		},
	});
}

/** What a step was given and what came of it, as the API wrote them; `null` where it is not recorded yet. */
export function bodyOf(tenant: string, id: string, step: number | undefined) {
	return queryOptions({
		queryKey: keys.body(tenant, id, step ?? 0),
		queryFn: ({ signal }) => readBody(`/api/v1/invocations/${id}/steps?limit=1&after=${(step ?? 1) - 1}`, signal),
		enabled: step !== undefined,
		structuralSharing: false,
	});
}

export function branchesKey(tenant: string, { root, id }: Pick<Invocation, "root" | "id">) {
	return [tenant, "invocations", "branches", root ?? id] as const;
}

/** A new branch is in the tree at once: a list that is read now may not have it yet. */
export function addBranch(cache: QueryClient, tenant: string, branch: Invocation): void {
	cache.setQueryData<{ items: Invocation[] }>(branchesKey(tenant, branch), (known) =>
		known === undefined || known.items.some((one) => one.id === branch.id)
			? known
			: { ...known, items: [branch, ...known.items] },
	);
}

/** The fork tree: every invocation with the same root, their states current. */
export function useBranches(tenant: string, invocation: Invocation) {
	const cache = useQueryClient();
	const queryKey = branchesKey(tenant, invocation);
	const root = invocation.root ?? invocation.id;
	const branches = useQuery({
		queryKey,
		queryFn: ({ signal }) =>
			ask(client.GET("/api/v1/invocations", { signal, params: { query: { root, limit: BRANCHES_MAX } } })),
	});
	const isFork = (branches.data?.items.length ?? 0) > 1;
	useTopic(isFork ? "invocations" : undefined, {
		push: (pushed) => cache.setQueryData<typeof branches.data>(queryKey, (known) => known && withState(known, pushed)),
		reset: () => void cache.invalidateQueries({ queryKey }),
	});
	return branches;
}

function withState<T extends { items: Invocation[] }>(page: T, { data }: Push): T {
	const { id, state } = data as Partial<Invocation>;
	const known = page.items.find((one) => one.id === id);
	if (!known || !state || known.state === state) return page;
	return { ...page, items: page.items.map((one) => (one === known ? { ...one, state } : one)) };
}

/** Steps of children that are opened, by the number of the step that called them. */
export function useOpened(tenant: string, children: ReadonlyMap<number, string>) {
	const wanted = [...children];
	return useQueries({
		queries: wanted.map(([, id]) => stepsOf(tenant, id)),
		combine: (results) =>
			new Map(results.flatMap(({ data }, index) => {
				const [number, id] = wanted[index] ?? [];
				return data && number !== undefined && id !== undefined ? [[number, { id, steps: data }] as const] : [];
			})),
	});
}

/**
 * Keeps what was read of an invocation current, and its streamed text. `cursor`: of its first read; what happens
 * after it is pushed, so all else is to be read after it. One that had ended by then has nothing more to tell.
 */
export function useFollow(tenant: string, id: string, cursor: number | undefined): Streams {
	const cache = useQueryClient();
	const [streams] = useState(() => new Streams());
	const readTail = (after: number) => {
		const took = ({ items }: { items: readonly Step[] }) =>
			cache.setQueryData<readonly Step[]>(keys.steps(tenant, id), (known) => known && mergedSteps(known, items));
		// Without it the steps that run are seen when they are recorded.
		page(id, String(Math.max(0, after)), undefined).then(took, () => undefined);
	};
	const push = (pushed: Push) => {
		const { event, data } = pushed;
		if (event === "token") return streams.token(data as Parameters<Streams["token"]>[0]);
		if (event === "reset") return streams.reset(data as Parameters<Streams["reset"]>[0]);
		cache.setQueryData<Invocation>(invocationOf(tenant, id).queryKey, (known) =>
			known ? (patched(known, pushed) ?? known) : known,
		);
		const moment = momentOf(pushed);
		if (moment) cache.setQueryData<readonly Moment[]>(keys.history(tenant, id), (known) => known && withMoment(known, moment));
		const step = event === "step.recorded" ? stepOf(data) : undefined;
		if (step) {
			cache.setQueryData<readonly Step[]>(keys.steps(tenant, id), (known) => known && mergedSteps(known, [step]));
			void cache.invalidateQueries({ queryKey: keys.body(tenant, id, step.number) });
		}
		// A model's record, and a wait, begin steps that no event tells of.
		if (step?.kind === "model") readTail(step.number);
		if (event === "invocation.waiting") readTail(firstOpen(cache.getQueryData(keys.steps(tenant, id)) ?? []));
	};
	useTopic(cursor === undefined ? undefined : `invocation:${id}@${cursor}`, {
		push,
		reset: () => {
			streams.clear();
			void cache.invalidateQueries({ queryKey: keys.one(tenant, id) });
		},
	});
	return streams;
}

/** The number before the first step that is not known to have ended. */
function firstOpen(steps: readonly Step[]): number {
	return (steps.find((step) => !step.ended_at)?.number ?? (steps.at(-1)?.number ?? 0) + 1) - 1;
}
