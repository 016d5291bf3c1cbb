/** A tunnel to one node: opened when somebody speaks, its frames heard in order, resumed once where it was cut. */
import { ask, client, currentTenant, send } from "../../api/client";
import { Failure, type Problem } from "../../api/problem";
import { createStore, type Store } from "../../app/store";
import { readEvents, type ServerEvent } from "./frames";

export type TunnelState =
	| { readonly kind: "closed"; readonly why: string | undefined }
	| { readonly kind: "opening" }
	| { readonly kind: "open"; readonly tunnel: string };

export interface Said {
	readonly id: string;
	readonly role: "user" | "assistant";
	readonly text: string;
	/** Of an answer. */
	readonly state: "sent" | "running" | "completed" | "failed" | "cancelled";
	readonly why?: string;
	readonly provider?: string;
}

interface Frame {
	readonly tunnel?: string;
	readonly id?: string;
	readonly text?: string;
	readonly kind?: string;
	readonly body?: { readonly text?: unknown; readonly provider?: unknown } | null;
	readonly problem?: Problem;
	readonly reason?: string;
}

/** Messages that a node is told of what was said before. */
const MESSAGES_MAX = 60;
const CHARACTERS_MAX = 40_000;

/** Folds one frame into what was said. */
export function folded(said: readonly Said[], event: string, frame: Frame): readonly Said[] {
	const change = (of: (one: Said) => Said) =>
		said.map((one) => (one.role === "assistant" && one.id === frame.id && one.state === "running" ? of(one) : one));
	switch (event) {
		case "token":
			return change((one) => ({ ...one, text: one.text + (frame.text ?? "") }));
		case "message":
			return frame.kind === "reset" ? change((one) => ({ ...one, text: "" })) : said;
		case "done":
			return change((one) => ({
				...one,
				state: "completed",
				text: typeof frame.body?.text === "string" && frame.body.text !== "" ? frame.body.text : one.text,
				...(typeof frame.body?.provider === "string" ? { provider: frame.body.provider } : {}),
			}));
		case "failed":
			return change((one) => ({ ...one, state: "failed", why: words(frame.problem) }));
		default:
			return said;
	}
}

function words(problem: Problem | undefined): string {
	if (!problem) return "the node failed";
	return [problem.detail ?? problem.title, problem.next && `Next: ${problem.next}`].filter(Boolean).join(" ");
}

/** What was said, as the node's model is given it; oldest give way. */
export function told(said: readonly Said[]): { role: "user" | "assistant"; content: string }[] {
	let characters = 0;
	const kept: { role: "user" | "assistant"; content: string }[] = [];
	for (const one of said.toReversed()) {
		if (one.text === "" || one.state === "failed" || one.state === "cancelled") continue;
		characters += one.text.length;
		if (characters > CHARACTERS_MAX || kept.length >= MESSAGES_MAX) break;
		kept.unshift({ role: one.role, content: one.text });
	}
	return kept;
}

export class Tunnel {
	readonly state: Store<TunnelState> = createStore<TunnelState>({ kind: "closed", why: undefined });
	readonly said: Store<readonly Said[]>;
	readonly #node: string;
	readonly #tenant = currentTenant();
	#reader: AbortController | undefined;

	constructor(node: string, before: readonly Said[]) {
		this.#node = node;
		this.said = createStore(before);
	}

	/** Throws a `Failure` where it cannot be sent. */
	async say(id: string, text: string): Promise<void> {
		const tunnel = await this.#opened();
		const before = this.said.get();
		const messages = [...told(before), { role: "user" as const, content: text }];
		const path = { node_id: this.#node };
		this.said.set([
			...before,
			{ id, role: "user", text, state: "sent" },
			{ id, role: "assistant", text: "", state: "running" },
		]);
		try {
			const body = { tunnel, id, kind: "chat", body: { messages } } as never;
			await ask(client.POST("/api/runtimes/v1/agent-nodes/{node_id}/tunnel/messages", { params: { path }, body }));
		} catch (error) {
			this.said.set(before);
			throw error;
		}
	}

	/** A node stops what nobody hears: the tunnel goes, and the next word opens another. */
	stop(): void {
		this.#over(undefined, "cancelled");
	}

	async #opened(): Promise<string> {
		const now = this.state.get();
		if (now.kind === "open") return now.tunnel;
		this.#reader?.abort();
		const reader = new AbortController();
		this.#reader = reader;
		this.state.set({ kind: "opening" });
		return new Promise((resolve, reject) => {
			const heard = (tunnel: string) => {
				this.state.set({ kind: "open", tunnel });
				resolve(tunnel);
			};
			void this.#read(reader, heard).catch((error: unknown) => {
				if (reader.signal.aborted) return reject(error instanceof Failure ? error : Failure.unreachable(error));
				const failure = error instanceof Failure ? error : Failure.unreachable(error);
				this.#over(failure.message, "failed");
				reject(failure);
			});
		});
	}

	/** Reads to the end; where the line is cut, once more from the last frame. */
	async #read(reader: AbortController, opened: (tunnel: string) => void): Promise<void> {
		let after = "";
		let why: string | undefined;
		const heard = (event: ServerEvent) => {
			after = event.id || after;
			const frame = JSON.parse(event.data) as Frame;
			if (event.event === "opened" && frame.tunnel) opened(frame.tunnel);
			if (event.event === "close") why = frame.reason ?? "the node closed it";
			this.said.set(folded(this.said.get(), event.event, frame));
		};
		for (let round = 0; round < 2 && why === undefined; round++) {
			const url = new URL(`/api/runtimes/v1/agent-nodes/${encodeURIComponent(this.#node)}/tunnel/events`, location.origin);
			if (after) url.searchParams.set("after", after);
			const headers = { "Mesh-Tenant": this.#tenant, Accept: "text/event-stream" };
			const response = await send(new Request(url, { headers, signal: reader.signal }));
			if (response.status === 204) break;
			if (!response.ok) throw Failure.of(response, (await response.json().catch(() => undefined)) as Partial<Problem> | undefined);
			const before = after;
			await readEvents(response, heard).catch((error: unknown) => {
				if (reader.signal.aborted) throw error;
			});
			if (after !== before) round = -1;
		}
		this.#over(why ?? "the line was cut", "failed");
	}

	#over(why: string | undefined, state: "failed" | "cancelled"): void {
		this.#reader?.abort();
		this.#reader = undefined;
		this.state.set({ kind: "closed", why });
		const ended = this.said.get().map((one) => (one.state === "running" ? { ...one, state, ...(why ? { why } : {}) } : one));
		this.said.set(ended);
	}
}
