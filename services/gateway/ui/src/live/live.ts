/** What the mesh pushes: one socket a tab, whatever subscribes. `useTopic(topic, listener)` is all a page needs. */
import { useEffect, useRef } from "react";
import { askText, setReadGate } from "../api/client";
import { Failure } from "../api/problem";
import { useStore } from "../app/store";
import { type Connection, isLive } from "./connection";
import { type Listener, Socket, type Wire } from "./socket";

export { asOf, type Connection, isLive } from "./connection";
export type { Listener, Push } from "./socket";

/** A hidden page draws no frames; its events fold this often. */
const HIDDEN_MS = 250;
/** Reads wait this long for the socket, and for the topics of their page, so that they need not be repeated. */
const READS_WAIT_MS = 250;

async function ticket(signal: AbortSignal): Promise<string> {
	try {
		return (JSON.parse(await askText("/api/v1/auth/tickets", { method: "POST", signal })) as { ticket: string }).ticket;
	} catch (error) {
		if (error instanceof Failure && error.isSignedOut) return "signed out";
		throw error;
	}
}

function open(ticket: string): Wire {
	const url = new URL(`/api/v1/ws?ticket=${encodeURIComponent(ticket)}`, location.href);
	url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
	return new WebSocket(url) as Wire;
}

const socket = new Socket({
	ticket,
	open,
	now: Date.now,
	random: Math.random,
	isOnline: () => navigator.onLine,
	after: (milliseconds, work) => {
		const timer = setTimeout(work, milliseconds);
		return () => clearTimeout(timer);
	},
	frame: (work) => {
		if (document.visibilityState === "hidden") setTimeout(work, HIDDEN_MS);
		else requestAnimationFrame(work);
	},
});

export const connection = socket.connection;

let hasBegun = false;

/** Called when it is known that somebody may look. */
export function beginLive(): void {
	if (hasBegun) return socket.begin();
	hasBegun = true;
	window.addEventListener("online", () => connection.get().kind !== "signed out" && socket.begin());
	window.addEventListener("offline", () => socket.cut());
	document.addEventListener("visibilitychange", () => {
		if (document.visibilityState === "visible" && connection.get().kind === "reconnecting") socket.begin();
	});
	const first = new Promise<void>((resolve) => {
		const timer = setTimeout(resolve, READS_WAIT_MS);
		const leave = connection.subscribe(() => {
			if (connection.get().kind === "catching up") return;
			clearTimeout(timer);
			leave();
			resolve();
		});
	});
	setReadGate(() => first.then(() => socket.settled(READS_WAIT_MS)));
	socket.begin();
}

export function endLive(): void {
	socket.stop();
}

/** Another tenant's feed. */
export function restartLive(): void {
	if (hasBegun) socket.restart();
}

/** Tries now instead of at the end of the wait. */
export function reconnectNow(): void {
	socket.begin();
}

export function subscribe(topic: string, listener: Listener): () => void {
	return socket.subscribe(topic, listener);
}

/**
 * Hears a topic while the component is mounted; `undefined` hears nothing. The listener may change at each render.
 * Pushes come at most once a frame, in order; fold them by id, and let older ones never overwrite newer ones.
 */
export function useTopic(topic: string | undefined, listener: Listener): void {
	const latest = useRef(listener);
	useEffect(() => {
		latest.current = listener;
	});
	useEffect(() => {
		if (topic === undefined) return;
		return subscribe(topic, {
			push: (push) => latest.current.push(push),
			reset: () => latest.current.reset(),
		});
	}, [topic]);
}

export function useConnection(): Connection {
	return useStore(connection);
}

export function useIsLive(): boolean {
	return useStore(connection, isLive);
}
