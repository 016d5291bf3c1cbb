/** Text of running model calls, as it comes. It bypasses the cache: the step's record replaces it. */
import { useSyncExternalStore } from "react";

export interface Streamed {
	/** Try that the text is of, from 1. */
	readonly attempt: number;
	readonly text: string;
	/** Texts of earlier tries: void, and shown so. */
	readonly voids: readonly { readonly attempt: number; readonly text: string }[];
}

export interface Token {
	readonly step: number;
	readonly attempt: number;
	readonly text: string;
}

export interface Reset {
	readonly step: number;
	/** The try that begins. */
	readonly attempt: number;
}

/** What one invocation streams, by step. */
export class Streams {
	private steps: ReadonlyMap<number, Streamed> = new Map();
	private readonly listeners = new Set<() => void>();

	token({ step, attempt, text }: Token): void {
		const known = this.steps.get(step);
		if (known && attempt < known.attempt) return;
		const begun = known && attempt > known.attempt ? started(known, attempt) : known;
		const { text: before, voids } = begun ?? { text: "", voids: [] };
		this.put(step, { attempt, text: before + text, voids });
	}

	reset({ step, attempt }: Reset): void {
		const known = this.steps.get(step);
		if (known && attempt >= known.attempt) this.put(step, started(known, attempt));
	}

	/** What follows is told from its beginning again. */
	clear(): void {
		this.steps = new Map();
		this.told();
	}

	of(step: number): Streamed | undefined {
		return this.steps.get(step);
	}

	/** Steps with text, also recorded ones: until its record is drawn, a step that ran a moment ago stays in its row. */
	spoken(): readonly number[] {
		return [...this.steps].flatMap(([step, { text }]) => (text === "" ? [] : [step]));
	}

	readonly subscribe = (listener: () => void): (() => void) => {
		this.listeners.add(listener);
		return () => void this.listeners.delete(listener);
	};

	private put(step: number, streamed: Streamed): void {
		this.steps = new Map(this.steps).set(step, streamed);
		this.told();
	}

	private told(): void {
		for (const listener of this.listeners) listener();
	}
}

/** The same try begins anew, as after a takeover, or a later one: what was there is void. */
function started(known: Streamed, attempt: number): Streamed {
	const { attempt: before, text, voids } = known;
	return { attempt, text: "", voids: text === "" ? voids : [...voids, { attempt: before, text }] };
}

export function useStreamed(streams: Streams, step: number): Streamed | undefined {
	return useSyncExternalStore(streams.subscribe, () => streams.of(step));
}
