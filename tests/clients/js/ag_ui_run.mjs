// The official AG-UI client, which refuses a stream whose events are out of order.
import assert from "node:assert/strict";
import { HttpAgent } from "@ag-ui/client";

const { MESH_TEST_URL: base, MESH_TEST_KEY: key } = process.env;
const agent = (name) => process.env[`MESH_TEST_AGENT_${name.toUpperCase()}`];

function http(name, thread) {
	return new HttpAgent({
		url: `${base}/api/v1/agents/${agent(name)}/ag-ui`,
		headers: { Authorization: `Bearer ${key}` },
		threadId: thread,
		initialMessages: [{ id: "1", role: "user", content: name === "tools" ? JSON.stringify({ n: 7 }) : "hello" }],
	});
}

const tool = { name: "ask", description: "Asks", parameters: { type: "object", properties: { n: { type: "integer" } } } };

const checks = {
	async streamed() {
		const { newMessages } = await http("stream", "js-1").runAgent();
		assert.equal(newMessages.at(-1).content, "One word after the other, as a slow reader likes it.");
	},
	async tools() {
		const ui = http("tools", "js-2");
		await ui.runAgent({ tools: [tool] });
		const call = ui.messages.flatMap((message) => message.toolCalls ?? [])[0];
		assert.equal(call.function.name, "ask");
		ui.addMessage({ id: "2", role: "tool", toolCallId: call.id, content: "seven" });
		const { newMessages } = await ui.runAgent({ tools: [tool] });
		assert.equal(newMessages.at(-1).content, "seven");
	},
	async startsOver() {
		const ui = http("flaky", "js-3");
		await ui.runAgent();
		const said = ui.messages.filter((message) => message.role === "assistant" && message.content);
		assert.equal(said.length, 1, "what was void is not shown");
	},
	async fails() {
		let told;
		await http("fail", "js-4")
			.runAgent({}, { onRunErrorEvent: ({ event }) => void (told = event.message) })
			.catch(() => undefined);
		assert.ok(told);
	},
};

for (const [name, check] of Object.entries(checks)) {
	await check();
	console.log("ok", name);
}
