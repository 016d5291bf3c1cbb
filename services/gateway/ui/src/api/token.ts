/**
 * The access token: in the memory of this page only, renewed on need and never by a timer. Its refresh token is
 * a cookie that scripts cannot read.
 */
import { Failure, type Problem } from "./problem";

export type Role = "viewer" | "service" | "operator" | "developer" | "owner";

/** Answer of sign-in and refresh. */
export interface SignedIn {
	readonly access_token: string;
	/** Seconds. */
	readonly expires_in: number;
	readonly tenant: string;
	readonly role: Role;
	readonly user: { readonly id: string; readonly login: string; readonly name: string };
	readonly tenants: readonly { readonly tenant: string; readonly role: Role }[];
}

/** A renewal is given up after this: other tabs wait for it. */
const RENEW_MS = 15_000;
/** A token with less left is renewed before it is used. */
const LEFT_MIN_MS = 30_000;

interface Held {
	readonly token: string;
	readonly until: number;
	readonly tenant: string;
}

export class Tokens {
	#held: Held | undefined;
	#age = 0;
	#renewing: { tenant: string; done: Promise<string> } | undefined;
	readonly #send: typeof fetch;
	readonly #now: () => number;
	/** Who signed in, at each renewal. */
	onSignedIn: (answer: SignedIn) => void = () => {};
	/** The refresh token is gone, too. */
	onSignedOut: () => void = () => {};

	constructor(send: typeof fetch, now: () => number) {
		this.#send = send;
		this.#now = now;
	}

	keep(answer: SignedIn): void {
		const until = this.#now() + answer.expires_in * 1_000;
		this.#held = { token: answer.access_token, until, tenant: answer.tenant };
		this.onSignedIn(answer);
	}

	/** Answers that are on their way are no sign-in any more. */
	forget(): void {
		this.#held = undefined;
		this.#age++;
	}

	/** A token for the tenant; asks for one unless it holds one that lives for a while. `refused` is not used again. */
	async get(tenant: string, refused?: string): Promise<string> {
		const held = this.#held;
		const isGood = held?.tenant === tenant && held.token !== refused && held.until - this.#now() > LEFT_MIN_MS;
		return isGood ? held.token : this.#renew(tenant);
	}

	/** Whoever needs a token meanwhile waits for the one request. */
	async #renew(tenant: string): Promise<string> {
		if (this.#renewing?.tenant !== tenant) {
			const done = inTurn(() => this.#ask(tenant)).finally(() => {
				if (this.#renewing?.done === done) this.#renewing = undefined;
			});
			this.#renewing = { tenant, done };
		}
		return this.#renewing.done;
	}

	async #ask(tenant: string): Promise<string> {
		const age = this.#age;
		let response: Response;
		try {
			response = await this.#send("/api/v1/auth/refresh", {
				method: "POST",
				headers: { "content-type": "application/json" },
				body: JSON.stringify({ tenant }),
				signal: AbortSignal.timeout(RENEW_MS),
			});
		} catch (error) {
			throw Failure.unreachable(error);
		}
		if (!response.ok) {
			const said = (await response.json().catch(() => undefined)) as Partial<Problem> | undefined;
			if (response.status === 401) {
				this.forget();
				this.onSignedOut();
			}
			throw Failure.of(response, said);
		}
		const answer = (await response.json()) as SignedIn;
		if (age !== this.#age) throw Failure.of(new Response(null, { status: 401 }), undefined);
		this.keep(answer);
		return answer.access_token;
	}
}

/** Tabs share the cookie, which rotates: they renew one after another where the browser has locks. */
async function inTurn(work: () => Promise<string>): Promise<string> {
	const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
	return locks ? locks.request("mesh.refresh", work) : work();
}
