// The official `openai` client, unmodified, against agents.
import assert from "node:assert/strict";
import OpenAI from "openai";

const { MESH_TEST_URL: base, MESH_TEST_KEY: key } = process.env;
const agent = (name) => process.env[`MESH_TEST_AGENT_${name.toUpperCase()}`];
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: key, maxRetries: 0 });
const said = [{ role: "user", content: "the quick brown fox" }];
const weather = {
	type: "function",
	function: {
		name: "weather",
		parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
	},
};

const checks = {
	async models() {
		const names = [];
		for await (const model of client.models.list()) names.push(model.id);
		assert.ok(names.includes(agent("echo")), names.join());
	},
	async whole() {
		const answer = await client.chat.completions.create({ model: agent("echo"), messages: said });
		assert.equal(answer.choices[0].message.content, "the quick brown fox");
		assert.ok(answer.usage.total_tokens > 0);
	},
	async streamed() {
		const stream = await client.chat.completions.create({
			model: agent("echo"),
			messages: said,
			stream: true,
			stream_options: { include_usage: true },
		});
		let text = "";
		let usage;
		for await (const chunk of stream) {
			text += chunk.choices[0]?.delta?.content ?? "";
			usage = chunk.usage ?? usage;
		}
		assert.equal(text, "the quick brown fox");
		assert.ok(usage.total_tokens > 0);
	},
	async tools() {
		const called = [];
		const runner = client.chat.completions.runTools({
			model: agent("tools"),
			messages: [{ role: "user", content: JSON.stringify({ city: "Kyiv" }) }],
			tools: [
				{
					type: "function",
					function: {
						...weather.function,
						parse: JSON.parse,
						function: ({ city }) => {
							called.push(city);
							return `rain in ${city}`;
						},
					},
				},
			],
		});
		assert.equal(await runner.finalContent(), "rain in Kyiv");
		assert.deepEqual(called, ["Kyiv"]);
	},
	async startsOver() {
		await assert.rejects(async () => {
			const stream = await client.chat.completions.create({
				model: agent("flaky"),
				messages: [{ role: "user", content: "hello" }],
				stream: true,
			});
			for await (const _ of stream);
		}, /starts over/);
	},
	async errors() {
		const ask = (more) => client.chat.completions.create({ model: agent("echo"), messages: said, ...more });
		await assert.rejects(ask({ model: "nobody-of-that-name" }), (error) => error.code === "model_not_found");
		await assert.rejects(ask({ n: 2 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "n");
		const stranger = new OpenAI({ baseURL: `${base}/v1`, apiKey: "mak_wrong", maxRetries: 0 });
		await assert.rejects(
			async () => stranger.models.list(),
			(error) => error instanceof OpenAI.AuthenticationError,
		);
	},
};

for (const [name, check] of Object.entries(checks)) {
	await check();
	console.log("ok", name);
}
