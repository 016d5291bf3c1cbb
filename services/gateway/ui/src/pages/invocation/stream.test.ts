import { expect, it } from "vitest";
import { Streams } from "./stream";

it("grows, and is void after a reset", () => {
	const streams = new Streams();
	let told = 0;
	streams.subscribe(() => {
		told += 1;
	});
	streams.token({ step: 2, attempt: 1, text: "One " });
	streams.token({ step: 2, attempt: 1, text: "word" });
	expect(streams.of(2)).toEqual({ attempt: 1, text: "One word", voids: [] });
	streams.reset({ step: 2, attempt: 2 });
	expect(streams.of(2)).toEqual({ attempt: 2, text: "", voids: [{ attempt: 1, text: "One word" }] });
	streams.token({ step: 2, attempt: 1, text: " late" });
	streams.token({ step: 2, attempt: 2, text: "Another" });
	expect(streams.of(2)?.text).toBe("Another");
	expect(streams.spoken()).toEqual([2]);
	expect(told).toBe(4);
	streams.reset({ step: 2, attempt: 3 });
	expect(streams.spoken()).toEqual([]);
});

it("takes a later try for a reset that was lost, and the same try again after a takeover", () => {
	const streams = new Streams();
	streams.token({ step: 1, attempt: 1, text: "a" });
	streams.token({ step: 1, attempt: 3, text: "b" });
	expect(streams.of(1)).toEqual({ attempt: 3, text: "b", voids: [{ attempt: 1, text: "a" }] });
	streams.reset({ step: 1, attempt: 3 });
	expect(streams.of(1)?.voids.map((one) => one.text)).toEqual(["a", "b"]);
	streams.reset({ step: 9, attempt: 2 });
	expect(streams.of(9)).toBeUndefined();
	streams.clear();
	expect(streams.of(1)).toBeUndefined();
});
