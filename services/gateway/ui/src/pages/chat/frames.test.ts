/** Server-sent events, whole and in pieces. */
import { expect, it } from "vitest";
import { readEvents, type ServerEvent, split } from "./frames";

it("reads events whole, however they come", async () => {
	const text = 'id: t:1\nevent: token\ndata: {"a":1}\n\n: alive\n\nevent: done\ndata: x\ndata: y\n\nid: half';
	const { events, rest } = split(text);
	expect(events).toEqual([
		{ id: "t:1", event: "token", data: '{"a":1}' },
		{ id: "", event: "done", data: "x\ny" },
	]);
	expect(rest).toBe("id: half");
	const heard: ServerEvent[] = [];
	const bytes = new TextEncoder().encode(text);
	const body = new ReadableStream({
		start(controller) {
			for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
			controller.close();
		},
	});
	await readEvents(new Response(body), (event) => heard.push(event));
	expect(heard).toEqual(events);
});
