/** How the page is connected, and what that means for what it shows. */

export type Connection =
	| { readonly kind: "live" }
	/** Connected, and not yet told everything since `since`; at the very start `since` is undefined. */
	| { readonly kind: "catching up"; readonly since: number | undefined }
	/** Tries again at `at`; both in milliseconds since 1970. */
	| { readonly kind: "reconnecting"; readonly at: number; readonly since: number | undefined }
	| { readonly kind: "offline"; readonly since: number }
	| { readonly kind: "signed out" };

export function isLive(connection: Connection): boolean {
	return connection.kind === "live";
}

/** When what is shown was last known to be current; `undefined` while it is, or before it ever was. */
export function asOf(connection: Connection): number | undefined {
	return "since" in connection ? connection.since : undefined;
}

const FIRST_MS = 500;
const MOST_MS = 15_000;

/** Milliseconds until the next try: doubling from 0.5 s to 15 s, spread so that a restart is not stormed. */
export function backoff(failures: number, random: number): number {
	const most = Math.min(MOST_MS, FIRST_MS * 2 ** failures);
	return Math.max(FIRST_MS, most / 2 + (random * most) / 2);
}
