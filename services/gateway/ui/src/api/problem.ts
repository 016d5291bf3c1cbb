/** What went wrong, as RFC 9457 problem documents say it. */

export interface Problem {
	readonly type: string;
	readonly title: string;
	/** 0: no answer came. */
	readonly status: number;
	readonly detail?: string;
	readonly field?: string;
	readonly next?: string;
	/** To be quoted when asking for help: it is in the logs and traces of the mesh. */
	readonly request_id?: string;
	/** Seconds after which trying again may help. */
	readonly retry_after_s?: number;
}

export class Failure extends Error {
	readonly problem: Problem;

	constructor(problem: Problem) {
		super(problem.detail ?? problem.title);
		this.name = "Failure";
		this.problem = problem;
	}

	static of(response: Response, said: Partial<Problem> | undefined): Failure {
		const id = response.headers.get("x-request-id") ?? said?.request_id;
		const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
		return new Failure({
			type: said?.type ?? "about:blank",
			title: said?.title ?? (response.statusText || "The mesh answered with an error"),
			status: response.status,
			...(said?.detail === undefined ? {} : { detail: said.detail }),
			...(said?.field === undefined ? {} : { field: said.field }),
			...(said?.next === undefined ? {} : { next: said.next }),
			...(id === undefined ? {} : { request_id: id }),
			...(Number.isNaN(seconds) ? {} : { retry_after_s: seconds }),
		});
	}

	static unreachable(cause: unknown): Failure {
		const why = cause instanceof Error ? cause.message : String(cause);
		return new Failure({
			type: "unreachable",
			title: "The mesh cannot be reached",
			status: 0,
			detail: why,
			next: "see whether it runs: mesh status",
		});
	}

	/** Whether trying again by itself may help. */
	get isTransient(): boolean {
		return this.problem.status === 0 || this.problem.status >= 502;
	}

	get isSignedOut(): boolean {
		return this.problem.status === 401;
	}
}
