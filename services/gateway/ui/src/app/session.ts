/**
 * Who looks at this page, and what it may do. Development mode signs nobody in; else the cookie is tried once at
 * the start, and the page goes to `/sign-in?return_to=…` when that is refused.
 */
import { currentTenant, setMode, tokens } from "../api/client";
import { Failure, type Problem } from "../api/problem";
import type { Role, SignedIn } from "../api/token";
import { connection, isLive } from "../live/live";
import { createStore, useStore } from "./store";

export type { Role } from "../api/token";

export interface Me {
	/** `development`: nobody signs in, and only this machine is answered. */
	readonly mode: "development" | "credentials";
	readonly actor: string;
	readonly role: Role;
	readonly user: { readonly id: string; readonly login: string; readonly name: string } | null;
	readonly tenants: readonly { readonly tenant: string; readonly role: Role }[];
}

export interface Methods {
	readonly mode: "development" | "credentials";
	readonly password: boolean;
	readonly providers: readonly { readonly id: string; readonly name: string }[];
}

export type Session =
	| { readonly kind: "starting" }
	| { readonly kind: "here"; readonly me: Me }
	/** `expired`: was here until the mesh refused to go on. */
	| { readonly kind: "signed out"; readonly why: "never" | "expired" | "left" }
	| { readonly kind: "unreachable"; readonly failure: Failure };

export const session = createStore<Session>({ kind: "starting" });

const ORDER: readonly Role[] = ["viewer", "service", "operator", "developer", "owner"];

export function covers(role: Role, least: Role): boolean {
	return ORDER.indexOf(role) >= ORDER.indexOf(least);
}

const NOBODY: Me = { mode: "credentials", actor: "", role: "viewer", user: null, tenants: [] };

/** Who is signed in. Inside the shell somebody always is. */
export function useMe(): Me {
	return useStore(session, (now) => (now.kind === "here" ? now.me : NOBODY));
}

/** Whether an act is offered now: the role covers it, and the connection is live. */
export function useMay(least: Role): boolean {
	const live = useStore(connection, isLive);
	return covers(useMe().role, least) && live;
}

tokens.onSignedIn = (answer) => {
	const { user, role, tenants } = answer;
	session.set({ kind: "here", me: { mode: "credentials", actor: user.login, role, user, tenants } });
};
tokens.onSignedOut = () => {
	const was = session.get();
	session.set({ kind: "signed out", why: was.kind === "here" ? "expired" : "never" });
};

async function json<T>(path: string, init?: RequestInit): Promise<T> {
	let response: Response;
	try {
		response = await fetch(path, init);
	} catch (error) {
		throw Failure.unreachable(error);
	}
	const body: unknown = response.status === 204 ? undefined : await response.json().catch(() => undefined);
	if (!response.ok) throw Failure.of(response, body as Partial<Problem> | undefined);
	return body as T;
}

const post = (body: unknown): RequestInit => ({
	method: "POST",
	headers: { "content-type": "application/json" },
	body: JSON.stringify(body),
});

let known: Promise<Methods> | undefined;

/** How one signs in here; asked once. */
export function methods(): Promise<Methods> {
	known ??= json<Methods>("/api/v1/auth/methods").catch((error: unknown) => {
		known = undefined;
		throw error;
	});
	return known;
}

/** Finds out who is here. Called at the start, and again by "Try again". */
export async function begin(): Promise<void> {
	const answer = methods();
	setMode(answer.then((told) => told.mode));
	try {
		if ((await answer).mode === "development") {
			const headers = { "Mesh-Tenant": currentTenant() };
			session.set({ kind: "here", me: await json<Me>("/api/v1/auth/me", { headers }) });
		} else {
			await tokens.get(currentTenant());
		}
	} catch (error) {
		if (error instanceof Failure && error.isSignedOut) {
			if (session.get().kind !== "signed out") session.set({ kind: "signed out", why: "never" });
		} else if (session.get().kind !== "here") {
			session.set({ kind: "unreachable", failure: error instanceof Failure ? error : Failure.unreachable(error) });
		}
	}
}

/** The path belongs to another tenant: its role there comes with the token for it. */
export async function enter(tenant: string): Promise<void> {
	const now = session.get();
	if (now.kind === "here" && now.me.mode === "credentials") {
		// A refusal is shown by the reads that follow, in their panes.
		await tokens.get(tenant).catch(() => undefined);
	}
}

/** Throws a `Failure`; 429 has `retry_after_s`. */
export async function signIn(login: string, password: string, tenant?: string): Promise<SignedIn> {
	const answer = await json<SignedIn>("/api/v1/auth/sign-in", post({ login, password, ...(tenant ? { tenant } : {}) }));
	tokens.keep(answer);
	return answer;
}

/** First the cookie: who is told to be out must be. What it failed of is shown in place of the page. */
export async function signOut(): Promise<void> {
	try {
		await json("/api/v1/auth/sign-out", post({}));
	} catch (error) {
		session.set({ kind: "unreachable", failure: error instanceof Failure ? error : Failure.unreachable(error) });
		return;
	}
	tokens.forget();
	session.set({ kind: "signed out", why: "left" });
}

/** Where to go after signing in: a path of this page, never another site's. */
export function safeReturn(given: string | undefined): string {
	if (!given?.startsWith("/") || /^\/[/\\]/.test(given)) return "/";
	const to = new URL(given, location.origin);
	return to.origin === location.origin && to.pathname !== "/sign-in" ? to.pathname + to.search + to.hash : "/";
}
