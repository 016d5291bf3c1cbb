/** Requests to routes of people and of the audit's chain, and what they answer. */
import { ask, client } from "../../api/client";
import type { Role } from "../../app/session";

export interface User {
	readonly id: string;
	readonly login: string;
	readonly name: string;
	readonly role: Role;
	readonly disabled: boolean;
	readonly created_at: string;
	readonly last_sign_in_at?: string | null;
}

export interface Key {
	readonly id: string;
	readonly owner: string;
	readonly tenant: string;
	readonly name: string;
	readonly role?: Role | null;
	readonly scopes?: readonly string[];
	readonly created_at: string;
	readonly expires_at?: string | null;
	readonly revoked_at?: string | null;
	readonly last_used_at?: string | null;
}

export interface Verified {
	readonly intact: boolean;
	readonly checked: number;
	readonly pruned: number;
	readonly unchained: number;
	readonly head: string;
	readonly broken?: { readonly seq: number; readonly id?: string | null; readonly why: string } | null;
}

export interface Page<T> {
	readonly items: readonly T[];
	readonly next?: string | null;
}

interface Untyped {
	(
		path: string,
		options?: { body?: unknown; params?: unknown; signal?: AbortSignal },
	): Promise<{
		data?: unknown;
		error?: unknown;
		response: Response;
	}>;
}

/** By path as text: for routes that the described API may not have yet. */
export const api = {
	get: <T>(path: string, signal?: AbortSignal): Promise<T> =>
		ask((client.GET as unknown as Untyped)(path, signal ? { signal } : {})) as Promise<T>,
	post: <T>(path: string, body: unknown): Promise<T> =>
		ask((client.POST as unknown as Untyped)(path, { body })) as Promise<T>,
	patch: <T>(path: string, body: unknown): Promise<T> =>
		ask((client.PATCH as unknown as Untyped)(path, { body })) as Promise<T>,
	delete: <T>(path: string): Promise<T> => ask((client.DELETE as unknown as Untyped)(path)) as Promise<T>,
};

export const ROLES: readonly Role[] = ["viewer", "service", "operator", "developer", "owner"];

/** What a role may, in few words. */
export const MAY: Record<Role, string> = {
	viewer: "reads",
	service: "reads and invokes",
	operator: "also cancels, approves, drains, forgets",
	developer: "also changes agents",
	owner: "also people, keys and the audit",
};
