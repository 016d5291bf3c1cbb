import { expect, it } from "vitest";
import { type Brain, isOwn, matches, movedFrom, type NodeRecord, type Pass, saidOf } from "./state";

function node(change: Partial<NodeRecord> = {}): NodeRecord {
	const record = {
		node_id: "nod_1",
		tenant: "default",
		owner: "ann",
		name: "kitchen",
		mode: "private",
		labels: { region: "eu" },
		capabilities: [],
		slots: 4,
		drained: false,
		registered_at: "2026-11-21T12:00:00Z",
		updated_at: "2026-11-21T12:00:00Z",
		status: "online",
		last_seen_at: "2026-11-21T12:04:00Z",
		running: 0,
		replicas: [],
	};
	return { ...record, ...change } as NodeRecord;
}

function pass(at: string, from: string, result = "applied"): Pass {
	return { at, actions: [{ kind: "place", from, result }] } as unknown as Pass;
}

function brain(change: Partial<Brain> = {}): Brain {
	return { nodes: [], replicas: [], passes: [], ...change } as unknown as Brain;
}

const replica = {
	replica: "rpl_1",
	tenant: "default",
	agent: "sofia",
	version: 7,
	state: "ready",
	running: 0,
} as const;

it.each([
	["online", node(), brain(), ""],
	["silent", node({ status: "offline" }), brain({ passes: [pass("2026-11-21T12:04:12Z", "nod_1")] }), "1 moved"],
	["silent", node({ status: "offline" }), undefined, "nothing was placed on it"],
	[
		"deaf",
		node(),
		brain({ nodes: [{ node_id: "nod_1", status: "deaf" }] as Brain["nodes"] }),
		"it sends heartbeats, but does not take on its assignment",
	],
	["draining", node({ drained: true, replicas: [replica] }), brain(), "1 replica to go"],
	["drained", node({ drained: true }), brain(), "nothing is placed here until the drain is taken back"],
	["asleep", node({ mode: "sleep" }), brain(), "it takes no work in this mode"],
	[
		"degraded",
		node({
			replicas: [
				{ ...replica, state: "failed", detail: "no model" },
				{ ...replica, state: "failed" },
			],
		}),
		brain(),
		"sofia v7 failed: no model and 1 more",
	],
	["never seen", node({ status: "registered" }), brain(), "it joined and has sent no heartbeat yet"],
])("says %s", (word, record, seen, why) => {
	expect(saidOf(record as NodeRecord, seen as Brain | undefined)).toEqual({ word, why });
});

it("counts as moved what was placed elsewhere since the node was seen last", () => {
	const passes = [
		pass("2026-11-21T12:03:00Z", "nod_1"),
		pass("2026-11-21T12:05:00Z", "nod_1", "failed"),
		pass("2026-11-21T12:05:00Z", "nod_2"),
		pass("2026-11-21T12:05:00Z", "nod_1"),
	];
	expect(movedFrom(node(), passes)).toBe(1);
});

it("filters by mode, owner and words", () => {
	expect(isOwn(node(), "user:ann") && isOwn(node(), "ann") && !isOwn(node(), "user:bob")).toBe(true);
	expect(matches(node(), { mode: "shared" }, "ann")).toBe(false);
	expect(matches(node(), { whose: "own" }, "ann")).toBe(true);
	expect(matches(node(), { whose: "others" }, "ann")).toBe(false);
	expect(matches(node(), { q: "Region=EU" }, "ann")).toBe(true);
	expect(matches(node(), { q: "cellar" }, "ann")).toBe(false);
});
