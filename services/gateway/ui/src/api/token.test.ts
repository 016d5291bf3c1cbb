/** Renewal of the access token, against a mesh of the test's own. */
import { expect, it } from "vitest";
import { Failure } from "./problem";
import { Tokens } from "./token";

function world() {
	const mesh = { now: 0, asked: [] as string[], status: 200 };
	const send = (async (_: unknown, init?: RequestInit) => {
		const { tenant } = JSON.parse(String(init?.body)) as { tenant: string };
		mesh.asked.push(tenant);
		if (mesh.status !== 200) return Response.json({ type: "identity/unauthorized" }, { status: mesh.status });
		return Response.json({ access_token: `${tenant}-${mesh.asked.length}`, expires_in: 600, tenant });
	}) as typeof fetch;
	const tokens = new Tokens(send, () => mesh.now);
	return { mesh, tokens };
}

it("asks once for all who wait, and again only when little time is left", async () => {
	const { mesh, tokens } = world();
	expect(await Promise.all([tokens.get("a"), tokens.get("a"), tokens.get("a")])).toEqual(["a-1", "a-1", "a-1"]);
	mesh.now = 569_000;
	expect(await tokens.get("a")).toBe("a-1");
	mesh.now = 571_000;
	expect(await tokens.get("a")).toBe("a-2");
	expect(mesh.asked).toEqual(["a", "a"]);
});

it("gives a renewal up that is never answered, so that other tabs are not held up", async () => {
	let given: AbortSignal | null | undefined;
	const tokens = new Tokens((async (_: unknown, init?: RequestInit) => {
		given = init?.signal;
		throw new DOMException("it took too long", "TimeoutError");
	}) as typeof fetch, Date.now);
	await expect(tokens.get("a")).rejects.toMatchObject({ problem: { type: "unreachable" } });
	expect(given).toBeInstanceOf(AbortSignal);
});

it("never uses a token for another tenant, nor one that was refused", async () => {
	const { tokens } = world();
	expect(await tokens.get("a")).toBe("a-1");
	expect(await tokens.get("b")).toBe("b-2");
	expect(await tokens.get("b", "b-2")).toBe("b-3");
	expect(await tokens.get("b", "b-2")).toBe("b-3");
});

it("is signed out by a refusal, not by a mesh that is down", async () => {
	const { mesh, tokens } = world();
	let isOut = false;
	tokens.onSignedOut = () => {
		isOut = true;
	};
	mesh.status = 503;
	await expect(tokens.get("a")).rejects.toBeInstanceOf(Failure);
	expect(isOut).toBe(false);
	mesh.status = 401;
	await expect(tokens.get("a")).rejects.toBeInstanceOf(Failure);
	expect(isOut).toBe(true);
});
