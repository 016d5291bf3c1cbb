/**
 * The one socket of a tab: subscribes topics, resumes by cursor after a cut, gathers pushes and hands them over
 * once a frame. The world (sockets, timers, tickets) is given, so tests have their own.
 */
import { createStore, type Store } from "../app/store";
import { backoff, type Connection } from "./connection";

export interface Push {
	readonly cursor: string;
	/** `invocations`, `invocation:inv_…`, `nodes`, `agents`, `passes`, `channel:…`, … */
	readonly topic: string;
	/** `invocation.running`, `step.recorded`, `token`, `reset`, `agent.published`, … */
	readonly event: string;
	readonly data: unknown;
}

/** A subscriber also hears `reset`: what it shows is to be read again, in place. */
export interface Listener {
	push(push: Push): void;
	reset(): void;
}

/** What `WebSocket` is used for. */
export interface Wire {
	send(text: string): void;
	close(): void;
	onopen: (() => void) | null;
	onclose: (() => void) | null;
	onmessage: ((event: { data: unknown }) => void) | null;
}

export interface World {
	/** One ticket a connect, given up by the signal; `signed out` ends the tries until `begin` is called again. */
	ticket(given: AbortSignal): Promise<string | "signed out">;
	open(ticket: string): Wire;
	now(): number;
	random(): number;
	isOnline(): boolean;
	after(milliseconds: number, work: () => void): () => void;
	/** Before the next frame, or soon where none is drawn. */
	frame(work: () => void): void;
}

/**
 * A connection that is not live and says nothing for so long is given up: whoever asked for a ticket, opened a socket
 * or subscribed may never hear of it. Twice as long each time, as much that was missed may take long to find.
 */
const PATIENCE_MS = 10_000;
const PATIENCE_MOST_MS = 40_000;

interface Message {
	readonly cursor?: string;
	readonly topic?: string;
	readonly event?: string;
	readonly data?: unknown;
	readonly live?: true;
	readonly reset?: unknown;
	readonly error?: { readonly retry_after_seconds?: number } | null;
	/** Topics that are pushed from now on. */
	readonly subscribed?: readonly string[];
	/** Whether the topic of an `error` may be subscribed to again. */
	readonly retry?: boolean;
}

/** A topic that could not be opened is asked for so often: a minute, as waits double to 15 s. */
const TRIES_MAX = 7;

export class Socket {
	readonly connection: Store<Connection> = createStore<Connection>({ kind: "catching up", since: undefined });
	readonly #world: World;
	readonly #topics = new Map<string, Set<Listener>>();
	/** Where a topic begins, until the first push of it: from then on the cursor knows. */
	readonly #begins = new Map<string, string>();
	/** Listeners that read before the first cursor was known: something may have happened in between. */
	readonly #early = new Set<Listener>();
	/** Topics that were subscribed to and are not known to be pushed yet; whether reads no longer wait for it. */
	readonly #asked = new Map<string, { isLate: boolean }>();
	#waiting: (() => void)[] = [];
	/** Topics that could not be opened, and are asked for again. */
	readonly #tries = new Map<string, { count: number; cancel: () => void }>();
	#wire: Wire | undefined;
	#cursor: string | undefined;
	#failures = 0;
	#since: number | undefined;
	/** Of the one timer: until the next try, or until a connection that says nothing is given up. */
	#cancel: (() => void) | undefined;
	/** Whether this connection was told which topics are wanted. */
	#isTold = false;
	#asking: AbortController | undefined;
	#attempt = 0;
	#gathered: Push[] = [];

	constructor(world: World) {
		this.#world = world;
	}

	/** `invocation:…@13` begins after that event of the invocation; its pushes, as all others, name the topic alone. */
	subscribe(wanted: string, listener: Listener): () => void {
		const topic = wanted.replace(/@.*/, "");
		const of = this.#topics.get(topic) ?? new Set();
		const isNew = of.size === 0;
		this.#topics.set(topic, of.add(listener));
		if (this.#cursor === undefined && wanted === topic) this.#early.add(listener);
		if (isNew && wanted !== topic) this.#begins.set(topic, wanted);
		// From now on: a later message takes no cursor. Reads wait until it is answered, and so see what was before.
		if (isNew && this.#say({ subscribe: [wanted] })) this.#asked.set(topic, { isLate: false });
		return () => {
			of.delete(listener);
			this.#early.delete(listener);
			if (of.size > 0 || this.#topics.get(topic) !== of) return;
			this.#topics.delete(topic);
			this.#begins.delete(topic);
			this.#forget(topic);
			this.#say({ unsubscribe: [topic] });
		};
	}

	/**
	 * Once all topics are pushed that are subscribed to: what is read then lacks nothing that is not pushed. After
	 * `most` milliseconds at the latest; a topic that comes later still has its listeners read again.
	 */
	settled(most: number): Promise<void> {
		if (!this.#isAwaited()) return Promise.resolve();
		return new Promise((resolve) => {
			const cancel = this.#world.after(most, () => {
				for (const asked of this.#asked.values()) asked.isLate = true;
				this.#settle();
			});
			this.#waiting.push(() => {
				cancel();
				resolve();
			});
		});
	}

	#isAwaited(): boolean {
		return [...this.#asked.values()].some((asked) => !asked.isLate);
	}

	#settle(): void {
		if (this.#isAwaited()) return;
		for (const go of this.#waiting.splice(0)) go();
	}

	/** Nobody wants it, or another connection asks for it. */
	#forget(topic: string): void {
		this.#asked.delete(topic);
		this.#tries.get(topic)?.cancel();
		this.#tries.delete(topic);
		this.#settle();
	}

	/** Connects now: at the start, after a sign-in, by "now", or because the browser is online again. */
	begin(): void {
		this.#drop();
		this.#failures = 0;
		void this.#connect();
	}

	/** For another tenant: its feed has cursors of its own, and pages read anew. */
	restart(): void {
		this.#cursor = undefined;
		this.#gathered = [];
		this.#since = undefined;
		for (const of of this.#topics.values()) for (const listener of of) this.#early.add(listener);
		this.begin();
	}

	stop(): void {
		this.#drop();
		this.connection.set({ kind: "signed out" });
	}

	/** The browser says that there is no network: no need to wait for a time-out. */
	cut(): void {
		this.#lost();
		this.#drop();
		this.connection.set({ kind: "offline", since: this.#since ?? this.#world.now() });
	}

	async #connect(): Promise<void> {
		const attempt = ++this.#attempt;
		if (!this.#world.isOnline()) return this.cut();
		this.connection.set({ kind: "catching up", since: this.#since });
		this.#wait();
		const asking = new AbortController();
		this.#asking = asking;
		let ticket: string;
		try {
			ticket = await this.#world.ticket(asking.signal);
		} catch {
			if (attempt === this.#attempt) this.#failed();
			return;
		}
		if (attempt !== this.#attempt) return;
		if (ticket === "signed out") return this.stop();
		const wire = this.#world.open(ticket);
		this.#wire = wire;
		this.#wait();
		wire.onopen = () => {
			wire.send(JSON.stringify({ subscribe: this.#wanted(), ...this.#after() }));
			this.#isTold = true;
		};
		wire.onmessage = (event) => this.#wire === wire && this.#heard(JSON.parse(String(event.data)) as Message);
		wire.onclose = () => this.#wire === wire && this.#failed();
	}

	/** For the next word of a connection that is not live. */
	#wait(): void {
		this.#cancel?.();
		const patience = Math.min(PATIENCE_MOST_MS, PATIENCE_MS * 2 ** this.#failures);
		this.#cancel = this.#world.after(patience, () => this.#failed());
	}

	#wanted(): string[] {
		return [...this.#topics.keys()].map((topic) => this.#begins.get(topic) ?? topic);
	}

	#after(): { after?: string } {
		return this.#cursor === undefined ? {} : { after: this.#cursor };
	}

	/** Whether it was said: until then `onopen` tells all topics there are. */
	#say(message: object): boolean {
		if (!this.#wire || !this.#isTold) return false;
		this.#wire.send(JSON.stringify(message));
		return true;
	}

	#subscribed(topics: readonly string[]): void {
		for (const topic of topics) {
			const asked = this.#asked.get(topic);
			this.#asked.delete(topic);
			if (asked?.isLate) for (const listener of [...(this.#topics.get(topic) ?? [])]) listener.reset();
		}
		this.#settle();
	}

	/** Its opening failed for now: it is asked for again, later and later. */
	#again(topic: string, least: number): void {
		const count = (this.#tries.get(topic)?.count ?? 0) + 1;
		if (!this.#topics.has(topic) || count > TRIES_MAX) return;
		this.#tries.get(topic)?.cancel();
		const wait = Math.max(least, backoff(count, this.#world.random()));
		const cancel = this.#world.after(wait, () => this.#say({ subscribe: [this.#begins.get(topic) ?? topic] }));
		this.#tries.set(topic, { count, cancel });
	}

	#heard(message: Message): void {
		if (this.connection.get().kind !== "live") this.#wait();
		if (message.cursor !== undefined) this.#cursor = message.cursor;
		if (message.live) {
			this.#cancel?.();
			this.#cancel = undefined;
			this.#failures = 0;
			this.#since = undefined;
			const early = [...this.#early];
			this.#early.clear();
			this.#flush();
			this.connection.set({ kind: "live" });
			for (const listener of early) listener.reset();
		} else if (message.subscribed) {
			this.#subscribed(message.subscribed);
		} else if (message.reset !== undefined) {
			this.#gathered = [];
			for (const of of this.#topics.values()) for (const listener of [...of]) listener.reset();
		} else if (message.error && message.topic) {
			if (message.retry) this.#again(message.topic, 1_000 * (message.error.retry_after_seconds ?? 0));
		} else if (message.error && message.topic === "") {
			// One of the later messages was refused, and nothing says which: nobody waits for it.
			this.#asked.clear();
			this.#settle();
		} else if (message.error && this.connection.get().kind !== "live") {
			// The first message was refused, such as a cursor of another version: all is read again, without one.
			this.#cursor = undefined;
			for (const of of this.#topics.values()) for (const listener of of) this.#early.add(listener);
			this.#failed();
		} else if (message.topic !== undefined && message.event !== undefined) {
			this.#begins.delete(message.topic);
			this.#tries.get(message.topic)?.cancel();
			this.#tries.delete(message.topic);
			if (this.#gathered.push(message as Push) === 1) this.#world.frame(() => this.#flush());
		}
	}

	#flush(): void {
		const pushes = this.#gathered;
		this.#gathered = [];
		for (const push of pushes) {
			for (const listener of [...(this.#topics.get(push.topic) ?? [])]) listener.push(push);
		}
	}

	#failed(): void {
		this.#lost();
		this.#drop();
		if (this.#world.isOnline()) this.#retry();
		else this.cut();
	}

	#retry(): void {
		const wait = backoff(this.#failures++, this.#world.random());
		this.connection.set({ kind: "reconnecting", at: this.#world.now() + wait, since: this.#since });
		this.#cancel = this.#world.after(wait, () => void this.#connect());
	}

	/** What is shown was current until now. */
	#lost(): void {
		if (this.connection.get().kind === "live") this.#since = this.#world.now();
	}

	#drop(): void {
		this.#attempt++;
		this.#cancel?.();
		this.#cancel = undefined;
		this.#asking?.abort();
		this.#asking = undefined;
		this.#isTold = false;
		// The next connection begins with all topics, where this one ended.
		for (const topic of [...this.#asked.keys(), ...this.#tries.keys()]) this.#forget(topic);
		const wire = this.#wire;
		this.#wire = undefined;
		if (!wire) return;
		wire.onopen = wire.onmessage = wire.onclose = null;
		wire.close();
	}
}
