import { expect, it } from "vitest";
import { type Action, agentRows, type Brain, folded, type Pass } from "./fold";

function action(change: Partial<Action>): Action {
	return { kind: "place", agent: "sofia", because: "", sentence: "", result: "applied", ...change } as Action;
}

function pass(id: string, at: string, actions: Action[], error: string | null = null): Pass {
	return { id, at, because: "tick", actions, error, took_ms: 1, more: 0 } as unknown as Pass;
}

const held = action({
	kind: "hold",
	result: "held",
	sentence: "hold 1 replica of sofia",
	because: "no room",
	next_try_at: "T9",
});

it("folds passes that only say again what waits, and never the open one", () => {
	const passes = [
		pass("4", "T4", [held]),
		pass("3", "T3", []),
		pass("2", "T2", [action({})]),
		pass("1", "T1", [held]),
		pass("0", "T0", [], "no database"),
	];
	const kinds = (agent?: string, open?: string) =>
		folded(passes, agent, open).map((entry) =>
			entry.kind === "pass" ? entry.pass.id : entry.passes.map((one) => one.id),
		);
	expect(kinds()).toEqual([["4", "3"], "2", ["1"], "0"]);
	expect(kinds("clara")).toEqual([["4", "3", "2", "1"], "0"]);
	expect(kinds(undefined, "3")).toEqual([["4"], "3", "2", ["1"], "0"]);
});

it("counts a replica on a silent node as not ready, and says why before a pass does", () => {
	const brain = {
		nodes: [{ node_id: "n1", name: "kitchen", status: "offline" }],
		agents: [{ agent: "sofia", version: 1, serving: 1, wanted: 1, waiting: 0, running: 0 }],
		replicas: [{ agent: "sofia", version: 1, node: "n1", state: "ready", detail: "" }],
	} as unknown as Brain;
	const [sofia] = agentRows(brain, []);
	expect(sofia).toMatchObject({ drift: "1 not ready", why: "kitchen is silent" });
	expect(sofia?.have[0]?.words).toBe("v1 kitchen silent");
});

it("says of each agent what is wanted, had, missing, why, since and until when", () => {
	const brain = {
		nodes: [{ node_id: "n1", name: "kitchen" }],
		agents: [
			{ agent: "sofia", version: 7, serving: 6, wanted: 2, waiting: 3, running: 1 },
			{ agent: "clara", version: 1, serving: 1, wanted: 1, waiting: 0, running: 0 },
		],
		replicas: [
			{ agent: "sofia", version: 7, node: "n1", state: "starting", detail: "pulling" },
			{ agent: "sofia", version: 6, node: null, state: "ready", detail: "" },
			{ agent: "clara", version: 1, node: "n1", state: "ready", detail: "" },
		],
	} as unknown as Brain;
	const passes = [pass("3", "T3", [held]), pass("2", "T2", [held]), pass("1", "T1", [])];
	const [sofia, clara] = agentRows(brain, passes);
	expect(sofia).toMatchObject({
		want: "2 × v7",
		wanted: 2,
		ready: 0,
		drift: "1 missing, 1 not ready, 1 of another version or stopping, served by v6",
		why: "no room",
		since: "T2",
		next: "T9",
	});
	expect(sofia?.have.map((one) => one.words)).toEqual(["v7 kitchen starting pulling", "v6 a node of somebody else"]);
	expect(clara).toMatchObject({ drift: "", why: "", since: undefined, next: undefined });
});
