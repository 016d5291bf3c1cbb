/** What a new agent begins with: the least that its runtime needs, and values that are safe to publish. */

export interface Beginning {
	readonly name: string;
	readonly runtime: string;
	readonly model: string;
	readonly instructions: string;
}

export function starter({ name, runtime, model, instructions }: Beginning): Record<string, unknown> {
	return {
		apiVersion: "mesh/v1",
		kind: "Agent",
		metadata: { name },
		spec: { runtime, ...of(runtime, model, instructions || `You are ${name || "an agent"}. Answer briefly.`) },
	};
}

function of(runtime: string, model: string, instructions: string): Record<string, unknown> {
	switch (runtime) {
		case "script":
			return { script: { command: ["cat"], timeout: "30s" } };
		case "cli":
			return { cli: { driver: "codex" } };
		case "http":
			return { http: { url: "https://example.org/agent" } };
		default:
			return { model: { name: model }, instructions };
	}
}
