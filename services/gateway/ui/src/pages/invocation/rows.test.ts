import { describe, expect, it } from "vitest";
import { rowsOf } from "./rows";
import { byOrder, byTime, placed } from "./scale";
import { type Moment, nextFailure, notesOf, type Step, waitWords, withSource } from "./steps";

const BEGIN = Date.parse("2026-11-22T00:00:00Z");
const at = (ms: number) => new Date(BEGIN + ms).toISOString();

function step(number: number, kind: Step["kind"], name: string, from: number, to: number | null, more = {}): Step {
	return {
		number,
		kind,
		name,
		effect: "idempotent",
		usage: { input_tokens: 0, output_tokens: 0, cost_usd: 0 },
		attempt: 1,
		epoch: 1,
		error: null,
		started_at: at(from),
		ended_at: to === null ? null : at(to),
		...more,
	};
}

const HOUR = 3_600_000;
/** A model asks for two tools, one of which a person allows after two hours; the model answers. */
const PAID = [
	step(1, "model", "gpt-4", 0, 1_000),
	step(2, "tool", "lookup", 1_010, 1_500),
	step(3, "approval", "pay", 1_010, 2 * HOUR),
	step(4, "tool", "pay", 2 * HOUR, 2 * HOUR + 500),
	step(5, "model", "gpt-4", 2 * HOUR + 510, 2 * HOUR + 1_500),
];
const WANTED = { scale: "order", now: BEGIN } as const;

describe("the order of steps", () => {
	it("puts tools of one answer into one column and one bracket, and what was allowed after its approval", () => {
		const places = placed(PAID);
		expect(places.map((place) => place.column)).toEqual([0, 1, 1, 2, 3]);
		expect(places.map((place) => place.bracket)).toEqual([undefined, "top", "middle", "bottom", undefined]);
		expect(places.map((place) => place.turn)).toEqual([0, 0, 0, 0, 1]);
	});

	it("gives all blocks the same width, and begins again at the left when they would be too small", () => {
		const many = Array.from({ length: 10_000 }, (_, index) => step(index + 1, "model", "m", index, index + 1));
		const { bars } = byOrder(placed(many));
		const widths = new Set([...bars.values()].map((bar) => (bar.to - bar.from).toFixed(6)));
		expect(widths.size).toBe(1);
		expect(bars.get(25)).toEqual(bars.get(1));
	});
});

describe("the time of steps", () => {
	it("leaves at least 80 % of the width to other bars when one waits for two hours", () => {
		const { bars, breaks } = byTime(PAID, BEGIN);
		const work = [1, 2, 4, 5].map((number) => bars.get(number)).map((bar) => (bar ? bar.to - bar.from : 0));
		expect(work.reduce((sum, one) => sum + one)).toBeGreaterThan(0.8);
		expect(breaks).toHaveLength(1);
		expect(breaks[0]?.ms).toBeGreaterThan(2 * HOUR - 2_000);
		expect(bars.get(3)?.to).toBeCloseTo(bars.get(4)?.from ?? 0);
	});

	it("folds nothing where nothing is idle, and fills the lane", () => {
		const { bars, breaks } = byTime(PAID.slice(0, 2), BEGIN);
		expect(breaks).toEqual([]);
		expect(bars.get(1)?.from).toBe(0);
		expect(bars.get(2)?.to).toBeCloseTo(1);
	});

	it("keeps any number of breaks to 15 % of the lane", () => {
		const calls = Array.from({ length: 60 }, (_, index) => step(index + 1, "tool", "t", index * HOUR, index * HOUR + 900));
		const { bars, breaks } = byTime(calls, BEGIN);
		expect(breaks.reduce((sum, one) => sum + one.width, 0)).toBeLessThanOrEqual(0.151);
		const left = [...bars.values()].map((bar) => bar.from);
		expect(left).toEqual([...left].sort((a, b) => a - b));
		expect(Math.max(...[...bars.values()].map((bar) => bar.to))).toBeLessThanOrEqual(1);
	});

	it("ends an open step now, and knows an empty recording", () => {
		const { bars } = byTime([step(1, "model", "m", 0, 500), step(2, "tool", "t", 500, null)], BEGIN + 1_000);
		expect(bars.get(2)).toEqual({ from: 0.5, to: 1 });
		expect(byTime([], BEGIN).bars.size).toBe(0);
	});
});

const moment = (seq: number, ms: number, what: object) => ({ seq, epoch: seq, at: at(ms), ...what }) as Moment;

describe("what happened between steps", () => {
	const history = [
		moment(1, 0, { what: "accepted", by: "ann" }),
		moment(2, 0, { what: "claimed", holder: "node-2" }),
		moment(5, 1_600, { what: "claimed", holder: "node-3" }),
		moment(6, 1_700, { what: "waiting", waits_for: [] }),
		moment(7, 2 * HOUR - 1, { what: "decided", step: 3, approved: true, by: "ann", note: "ok" }),
		moment(8, 2 * HOUR - 1, { what: "claimed", holder: "node-3" }),
	];

	it("tells a takeover, and not what follows a wait", () => {
		expect(notesOf(history, PAID).map((note) => note.text)).toEqual(["node-3 took over from node-2, read 1–2"]);
		const { rows } = rowsOf(PAID, notesOf(history, PAID), new Map(), WANTED);
		expect(rows.map((row) => row.key)).toEqual(["s1", "s2", "s3", "n5", "s4", "s5"]);
	});

	it("tells where it was forked, and who decided in its source", () => {
		const own = [moment(1, 2 * HOUR - 1, { what: "accepted", by: "ann" })];
		const source = { invocation: "inv_ABCDEF", step: 4 };
		expect(notesOf(own, PAID, source).map((note) => note.text)).toEqual(["forked from …ABCDEF, read 1–3"]);
		const told = withSource(own, history, 4);
		expect(waitWords(PAID[2] as Step, told, BEGIN)).toContain("approved by ann");
		expect(waitWords(PAID[2] as Step, withSource(own, history, 3), BEGIN)).not.toContain("approved");
	});

	it("says what was waited for and who ended it", () => {
		expect(waitWords(PAID[2] as Step, history, BEGIN)).toMatch(/^waited 1 h 59 min: approved by ann “ok”$/);
		expect(waitWords(step(3, "approval", "pay", 0, null), [], BEGIN + 5_000)).toBe("waits 5 s for a person");
		expect(waitWords(PAID[0] as Step, history, BEGIN)).toBeUndefined();
	});
});

describe("rows", () => {
	it("are filtered by kind and by words, also those of an error", () => {
		const steps = [...PAID, step(6, "tool", "mail", 0, 1, { error: { title: "no", detail: "refused by 10.0.0.7" } })];
		const keys = (wanted: object) =>
			rowsOf(steps, [], new Map(), { ...WANTED, ...wanted }).rows.map((row) => row.key);
		expect(keys({ kinds: ["tool"] })).toEqual(["s2", "s4", "s6"]);
		expect(keys({ find: "PAY" })).toEqual(["s3", "s4"]);
		expect(keys({ find: "refused" })).toEqual(["s6"]);
		expect(nextFailure(steps, 1)?.number).toBe(6);
		expect(nextFailure(steps, 6)?.number).toBe(6);
		expect(nextFailure(PAID, 1)).toBeUndefined();
	});

	it("hold the steps of an opened child within its bar", () => {
		const child = { id: "inv_c", steps: [step(1, "model", "m", 0, 1), step(2, "tool", "t", 1, 2)] };
		const { rows } = rowsOf([step(1, "child", "helper", 0, 9)], [], new Map([[1, child]]), WANTED);
		expect(rows.map((row) => row.key)).toEqual(["s1", "inv_c/1", "inv_c/2"]);
		expect(rows.map((row) => row.type === "step" && row.bar)).toEqual([
			{ from: 0, to: 1 },
			{ from: 0, to: 0.5 },
			{ from: 0.5, to: 1 },
		]);
	});
});
