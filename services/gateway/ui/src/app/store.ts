/** A value outside React that components may watch: session, connection, settings of this browser. */
import { useSyncExternalStore } from "react";

export interface Store<T> {
	get(): T;
	set(value: T): void;
	subscribe(heard: () => void): () => void;
}

export function createStore<T>(initial: T): Store<T> {
	let current = initial;
	const listeners = new Set<() => void>();
	return {
		get: () => current,
		set: (value) => {
			if (Object.is(value, current)) return;
			current = value;
			for (const heard of [...listeners]) heard();
		},
		subscribe: (heard) => {
			listeners.add(heard);
			return () => void listeners.delete(heard);
		},
	};
}

export function useStore<T>(store: Store<T>): T;
export function useStore<T, S>(store: Store<T>, select: (value: T) => S): S;
/** `select` must answer the same object for the same value: pick, do not build. */
export function useStore<T, S>(store: Store<T>, select?: (value: T) => S): T | S {
	const read = () => (select ? select(store.get()) : store.get());
	return useSyncExternalStore(store.subscribe, read, read);
}
