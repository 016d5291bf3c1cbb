/** Questions to a worker, whose other end is the test. */
import { expect, it } from "vitest";
import { isPartMissing } from "../app/later";
import { Beside } from "./beside";

class Other {
	asked: { id: number; question: string }[] = [];
	isEnded = false;
	onmessage: ((event: { data: unknown }) => void) | null = null;
	onerror: (() => void) | null = null;
	postMessage(message: { id: number; question: string }) {
		this.asked.push(message);
	}
	terminate() {
		this.isEnded = true;
	}
}

function world() {
	const others: Other[] = [];
	const beside = new Beside<string, string>(() => {
		others.push(new Other());
		return others.at(-1) as unknown as Worker;
	});
	return { others, beside };
}

it("gives each answer to who asked, in whatever order they come", async () => {
	const { others, beside } = world();
	const [first, second] = [beside.ask("one"), beside.ask("two")];
	const [other] = others;
	expect(other?.asked.map(({ question }) => question)).toEqual(["one", "two"]);
	other?.onmessage?.({ data: { id: other.asked[1]?.id, answer: "2" } });
	other?.onmessage?.({ data: { id: other.asked[0]?.id, error: "not JSON" } });
	await expect(second).resolves.toBe("2");
	await expect(first).rejects.toThrow("not JSON");
	expect(others.length).toBe(1);
});

it("tells all who wait when it cannot be loaded, and begins anew with the next question", async () => {
	const { others, beside } = world();
	const asked = [beside.ask("one"), beside.ask("two")];
	others[0]?.onerror?.();
	for (const one of asked) expect(isPartMissing(await one.catch((error: unknown) => error))).toBe(true);
	expect(others[0]?.isEnded).toBe(true);
	const again = beside.ask("three");
	others[1]?.onmessage?.({ data: { id: others[1].asked[0]?.id, answer: "3" } });
	await expect(again).resolves.toBe("3");
});
