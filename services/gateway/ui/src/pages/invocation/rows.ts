/** The rows of the waterfall: steps, what happened between them, and the steps of children that are opened. Pure. */
import { type Bar, byOrder, byTime, type Placed, placed, type Scale } from "./scale";
import type { Group } from "./search";
import { groupOf, type Note, type Step, titleOf } from "./steps";

export type Row = StepRow | NoteRow;

export interface StepRow {
	readonly type: "step";
	readonly key: string;
	readonly step: Step;
	/** 0: of this invocation itself; 1: of its child; … */
	readonly depth: number;
	/** Of a child's step: whose it is. */
	readonly of?: string;
	readonly bar: Bar;
	readonly bracket?: Placed["bracket"];
	readonly beginsTurn: boolean;
}

export interface NoteRow {
	readonly type: "note";
	readonly key: string;
	readonly note: Note;
}

export interface Wanted {
	readonly scale: "order" | "time";
	readonly kinds?: readonly Group[] | undefined;
	readonly find?: string | undefined;
	/** Milliseconds since 1970 at which what is open ends for now. */
	readonly now: number;
}

/** Steps of opened children, by the number of the step that called them. */
export type Opened = ReadonlyMap<number, { readonly id: string; readonly steps: readonly Step[] }>;

export function rowsOf(
	steps: readonly Step[],
	notes: readonly Note[],
	opened: Opened,
	wanted: Wanted,
): { rows: Row[]; scale: Scale } {
	const places = placed(steps);
	const scale = wanted.scale === "time" ? byTime(steps, wanted.now) : byOrder(places);
	const rows: Row[] = [];
	let [next, turn] = [0, -1];
	for (const { step, turn: of, bracket } of places) {
		const started = Date.parse(step.started_at);
		for (let note = notes[next]; note && note.at <= started; note = notes[next]) {
			rows.push(noteRow(note));
			next += 1;
		}
		if (!isShown(step, wanted)) continue;
		const bar = scale.bars.get(step.number) ?? { from: 0, to: 0 };
		const row = { type: "step", key: `s${step.number}`, step, depth: 0, bar, beginsTurn: of !== turn } as const;
		rows.push(bracket ? { ...row, bracket } : row);
		turn = of;
		const child = opened.get(step.number);
		if (child) rows.push(...inside(child, bar, bracket, wanted));
	}
	rows.push(...notes.slice(next).map(noteRow));
	return { rows, scale };
}

function noteRow(note: Note): NoteRow {
	return { type: "note", key: `n${note.seq}`, note };
}

/** A child's steps within the bar of the step that called it. */
function inside(
	child: { id: string; steps: readonly Step[] },
	bar: Bar,
	bracket: Placed["bracket"],
	wanted: Wanted,
): StepRow[] {
	const places = placed(child.steps);
	const scale = wanted.scale === "time" ? byTime(child.steps, wanted.now) : byOrder(places);
	const width = bar.to - bar.from;
	return places.map(({ step }) => {
		const own = scale.bars.get(step.number) ?? { from: 0, to: 0 };
		const within = { from: bar.from + own.from * width, to: bar.from + own.to * width };
		return {
			type: "step",
			key: `${child.id}/${step.number}`,
			step,
			depth: 1,
			of: child.id,
			bar: within,
			beginsTurn: false,
			// The bracket of its caller goes on past it.
			...(bracket === "top" || bracket === "middle" ? { bracket: "middle" as const } : {}),
		};
	});
}

function isShown(step: Step, { kinds, find }: Wanted): boolean {
	if (kinds && !kinds.includes(groupOf(step.kind))) return false;
	if (!find) return true;
	const wanted = find.toLowerCase();
	const said = [titleOf(step), step.kind, String(step.number), step.error?.detail, step.error?.title, step.error?.type];
	return said.some((text) => text?.toLowerCase().includes(wanted));
}
