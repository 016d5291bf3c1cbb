/** What the mock model plays in these tests, by the name of its script: a list of turns. */

const words = (count: number) => Array.from({ length: count }, (_, number) => `w${number} `);
const calls = (...tools: readonly (readonly [string, object])[]) => ({
	tool_calls: tools.map(([name, args]) => ({ name, arguments: args })),
});

const wait = calls(["wait_signal", { name: "go" }]);

/** `9007199254740993` is no JavaScript number. */
export const DIGITS = '{"account":9007199254740993,"open":-9007199254740995}';

export const SCRIPTS = {
	/** Speaks for two seconds. */
	words: [{ tokens: words(40), per_token_ms: 50 }],
	/** The same once it is told to go on. */
	told: [wait, { tokens: words(40), per_token_ms: 50 }],
	/** Then its first try breaks off in the middle. */
	halfway: [
		wait,
		{ tokens: words(20), per_token_ms: 50, fail: { status: 503, message: "the test says so", after_tokens: 10, times: 1 } },
	],
	/** Two tools beside each other, one after them, an answer. */
	payment: [
		calls(["lookup", { invoice: "88" }], ["weigh", { grams: 12 }]),
		calls(["pay", { amount: 88 }]),
		{ text: "Paid 88. You said: {{last}}" },
	],
	/** One tool, an answer. */
	pay: [calls(["pay", { amount: 88 }]), { text: "Paid." }],
	digits: [calls(["lookup", { raw: DIGITS }]), { text: "{{tool:0}}" }],
};
