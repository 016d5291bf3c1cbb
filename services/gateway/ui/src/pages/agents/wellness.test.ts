/** Whether an agent is well, and which answer about it is newer. */
import { expect, it } from "vitest";
import { type AgentView, newer } from "./data";
import { type Facts, order, wellness } from "./wellness";

const agent = {
	metadata: { name: "sofia" },
	status: { published: { version: 1, hash: "", published_at: "" }, draft: false },
} as unknown as AgentView;
const facts: Facts = { agent, pause: undefined, placed: undefined, drift: [], replicas: [], counted: undefined };
const placed = { tenant: "default", agent: "sofia", version: 1, wanted: 2, assigned: 1, ready: 1, waiting: 0, running: 0 };
const counted = { agent: "sofia", queued: 0, running: 0, waiting: 0, completed: 8, failed: 2, cancelled: 0, dead: 0, cost_usd: 0 };

it("says what is wrong, and why", () => {
	expect(wellness(facts)).toEqual({ word: "well", why: undefined });
	expect(wellness({ ...facts, counted }).why).toBe("2 of 10 in 24 h failed");
	expect(wellness({ ...facts, counted: { ...counted, completed: 80 } }).word).toBe("well");
	const drift = ["hold 1 replica of sofia-2 because it sleeps", "hold 1 replica of sofia because no node has room for it"];
	expect(wellness({ ...facts, placed, drift })).toEqual({ word: "short of replicas", why: "no node has room for it" });
	expect(wellness({ ...facts, placed: { ...placed, ready: 0 } }).word).toBe("not placed");
	const fresh = { ...agent, status: { ...agent.status, published: null } } as AgentView;
	expect(wellness({ ...facts, agent: fresh }).word).toBe("never published");
});

it("puts the unwell first", () => {
	const rows = [
		{ name: "b", word: "well" as const },
		{ name: "a", word: "well" as const },
		{ name: "c", word: "paused" as const },
		{ name: "d", word: "failing" as const },
	];
	expect(rows.sort(order).map(({ name }) => name).join("")).toBe("dcab");
});

it("never takes an older answer for a newer one", () => {
	const at = (generation: number, published_at: string, created_at = "1") =>
		({ status: { generation, created_at, published: { published_at } } }) as unknown as AgentView;
	expect(newer(at(10, "b"), at(9, "a"))).toMatchObject({ status: { generation: 10 } });
	expect(newer(at(9, "b"), at(9, "a")).status.published?.published_at).toBe("b");
	expect(newer(at(9, "a"), at(10, "a")).status.generation).toBe(10);
	expect(newer(at(9, "a"), at(1, "c", "2")).status.generation).toBe(1);
});
