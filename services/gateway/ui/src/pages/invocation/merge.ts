/** Folding what is pushed into what was read: a record is final, and older never overwrites newer. Pure. */
import type { Push } from "../../live/live";
import type { Invocation, Moment, Step } from "./steps";

/** By number; of two views of a step the one that has ended, else the newer one. The same object where nothing is new. */
export function mergedSteps(before: readonly Step[], news: readonly Step[]): readonly Step[] {
	const last = before.at(-1)?.number ?? 0;
	if (news.every((step) => step.number > last)) return news.length === 0 ? before : [...before, ...sorted(news)];
	const all = new Map(before.map((step) => [step.number, step]));
	let isNew = false;
	for (const step of news) {
		const known = all.get(step.number);
		if (known?.ended_at && (!step.ended_at || known.ended_at >= step.ended_at)) continue;
		all.set(step.number, step);
		isNew = true;
	}
	return isNew ? sorted([...all.values()]) : before;
}

function sorted(steps: readonly Step[]): Step[] {
	return [...steps].sort((a, b) => a.number - b.number);
}

/** A pushed step without its bodies: these are read when it is looked at. */
export function stepOf(data: unknown): Step | undefined {
	if (!isObject(data) || typeof data.number !== "number" || typeof data.kind !== "string") return undefined;
	const { input: _, output: __, seq: ___, at: ____, invocation: _____, ...step } = data;
	return step as unknown as Step;
}

/** What an event says of the invocation itself; `undefined` where it says nothing, or nothing new. */
export function patched(invocation: Invocation, { event, data }: Pick<Push, "event" | "data">): Invocation | undefined {
	if (!isObject(data) || typeof data.seq !== "number" || data.seq <= invocation.cursor) return undefined;
	const cursor = data.seq;
	if (event === "invocation.paused" || event === "invocation.resumed") {
		return { ...invocation, cursor, paused: event === "invocation.paused" };
	}
	if (event === "step.recorded") return { ...invocation, cursor };
	const state = data.state as Invocation["state"] | undefined;
	if (!event.startsWith("invocation.") || state === undefined) return undefined;
	const next = { ...invocation, cursor, state, waits_for: (data.waits_for as Invocation["waits_for"]) ?? [] };
	if (state === "running") return { ...next, attempt: Number(data.epoch), started_at: next.started_at ?? String(data.at) };
	if (state === "queued" || state === "waiting") return next;
	const { reason, output, error, usage, provider } = data as Partial<Invocation>;
	return {
		...next,
		ended_at: String(data.at),
		reason: reason ?? null,
		output: output ?? null,
		error: error ?? null,
		provider: provider ?? null,
		usage: usage ?? next.usage,
	};
}

/** An event as the line of history that a later read would give. */
export function momentOf({ event, data }: Pick<Push, "event" | "data">): Moment | undefined {
	if (!isObject(data) || typeof data.seq !== "number") return undefined;
	const { seq, epoch, at } = data;
	const what = (more: object) => ({ seq, epoch, at, ...more }) as unknown as Moment;
	switch (event) {
		case "invocation.running":
			return what({ what: "claimed", holder: data.holder });
		case "invocation.waiting":
			return what({ what: "waiting", waits_for: data.waits_for });
		case "invocation.queued":
			return data.reason ? what({ what: "released", reason: data.reason }) : undefined;
		case "invocation.paused":
		case "invocation.resumed":
			return what({ what: event.slice("invocation.".length), by: data.by, reason: data.reason });
		case "approval.decided": {
			const { step, by, note, decision } = data;
			return what({ what: "decided", step, by, note, approved: decision === "approve" });
		}
		default:
			return undefined;
	}
}

/** Appended where it is later than all that is known. */
export function withMoment(history: readonly Moment[], moment: Moment): readonly Moment[] {
	return moment.seq > (history.at(-1)?.seq ?? 0) ? [...history, moment] : history;
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}
