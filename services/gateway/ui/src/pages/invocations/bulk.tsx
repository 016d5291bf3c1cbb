/** Cancel, pause and requeue of all that a filter finds, counted by the server before and by its answers after. */
import type { ReactNode } from "react";
import { ask, client, type Schema } from "../../api/client";
import { Failure } from "../../api/problem";
import type { InvocationSearch } from "../../app/search";
import { Act } from "../../parts/act";
import type { InvocationState } from "../../theme/tokens";

const AT_ONCE = 8;
const PAGE = 500;
const OPEN: readonly InvocationState[] = ["queued", "running", "waiting"];

type Counts = Schema["Counts"];

/** Runs `work` for each, some at a time; counts refusals and keeps the first. */
export async function forEach(ids: readonly string[], work: (id: string) => Promise<unknown>): Promise<void> {
	const rest = [...ids];
	const refused: unknown[] = [];
	const worker = async () => {
		for (let id = rest.shift(); id !== undefined; id = rest.shift()) {
			await work(id).catch((error: unknown) => refused.push(error));
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, worker));
	const first = refused[0];
	if (first === undefined) return;
	const why = first instanceof Error ? first.message : String(first);
	throw new Failure({
		type: first instanceof Failure ? first.problem.type : "about:blank",
		title: "Not all of it was done",
		status: 0,
		detail: `${ids.length - refused.length} done, ${refused.length} refused, the first because: ${why}`,
	});
}

/** Ids of what is open under the filter now. */
async function openIds(search: InvocationSearch): Promise<string[]> {
	const states = search.state ? [search.state] : OPEN;
	const ids: string[] = [];
	for (const state of states) {
		let after: string | undefined;
		do {
			const query = { ...search, state, limit: PAGE, ...(after ? { after } : {}) };
			const page = await ask(client.GET("/api/v1/invocations", { params: { query } }));
			ids.push(...page.items.map((item) => item.id));
			after = page.next ?? undefined;
		} while (after);
	}
	return ids;
}

/** Dead letters of what ended dead under the filter. */
async function letters(search: InvocationSearch): Promise<string[]> {
	const wanted = new Set(await openIds({ ...search, state: "dead" }));
	const ids: string[] = [];
	let after: string | undefined;
	do {
		const page = await ask(client.GET("/api/v1/dead-letters", { params: { query: { limit: PAGE, ...(after ? { after } : {}) } } }));
		ids.push(...page.items.filter((letter) => letter.invocation && wanted.has(letter.invocation)).map((letter) => letter.id));
		after = page.next ?? undefined;
	} while (after);
	return ids;
}

export function openCount(counts: Counts, search: InvocationSearch): number {
	if (search.state) return OPEN.includes(search.state) ? counts[search.state] : 0;
	return counts.queued + counts.running + counts.waiting;
}

function said(count: number): string {
	return `${count.toLocaleString("en")} ${count === 1 ? "invocation" : "invocations"}`;
}

export function Bulk({ counts, search }: { counts: Counts; search: InvocationSearch }): ReactNode {
	const open = openCount(counts, search);
	const dead = search.state === "dead" ? counts.dead : 0;
	const isAll = Object.keys(search).length === 0;
	const which = isAll ? " These are all that are open in this tenant." : "";
	const post = (path: "cancel" | "pause") => (id: string) =>
		ask(client.POST(`/api/v1/invocations/{id}/${path}`, { params: { path: { id } } }));
	return (
		<>
			{open > 0 && (
				<>
					<Act
						label={`Pause ${open.toLocaleString("en")}…`}
						least="operator"
						confirm={`${said(open)} will finish the step they are in and begin no other until resumed.${which}`}
						yes={`Pause ${said(open)}`}
						run={async () => forEach(await openIds(search), post("pause"))}
					/>
					<Act
						label={`Cancel ${open.toLocaleString("en")}…`}
						least="operator"
						tone="danger"
						confirm={`${said(open)} will be cancelled. What they did stays done; nothing more is begun.${which}`}
						yes={`Cancel ${said(open)}`}
						run={async () => forEach(await openIds(search), post("cancel"))}
					/>
				</>
			)}
			{dead > 0 && (
				<Act
					label="Requeue…"
					least="operator"
					confirm={async () => {
						const found = await letters(search);
						return `${said(found.length)} will run again as forks of what ended dead: steps that succeeded are not repeated.`;
					}}
					yes="Requeue"
					run={async () =>
						forEach(await letters(search), (id) => ask(client.POST("/api/v1/dead-letters/{id}/requeue", { params: { path: { id } } })))
					}
				/>
			)}
		</>
	);
}
