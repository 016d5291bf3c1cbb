/** Work that is done beside the page by a worker, so that no frame waits for it: a question in, an answer out. */
import { partMissing } from "../app/later";

interface Question<Q> {
	readonly id: number;
	readonly question: Q;
}

type Reply<A> = { readonly id: number; readonly answer: A } | { readonly id: number; readonly error: string };

interface Asker<A> {
	resolve(answer: A): void;
	reject(error: Error): void;
}

/** The page's end. The worker begins with the first question and stays. */
export class Beside<Q, A> {
	readonly #begin: () => Worker;
	#worker: Worker | undefined;
	#count = 0;
	readonly #waiting = new Map<number, Asker<A>>();

	constructor(begin: () => Worker) {
		this.#begin = begin;
	}

	/** Rejects with what the work threw, and with a part that is missing when the worker cannot be loaded. */
	ask(question: Q): Promise<A> {
		const worker = this.#worker ?? this.#started();
		const id = this.#count++;
		return new Promise((resolve, reject) => {
			this.#waiting.set(id, { resolve, reject });
			worker.postMessage({ id, question } satisfies Question<Q>);
		});
	}

	#started(): Worker {
		const worker = this.#begin();
		worker.onmessage = ({ data }: MessageEvent<Reply<A>>) => {
			const asker = this.#waiting.get(data.id);
			this.#waiting.delete(data.id);
			if ("error" in data) asker?.reject(new Error(data.error));
			else asker?.resolve(data.answer);
		};
		worker.onerror = () => {
			worker.terminate();
			this.#worker = undefined;
			const askers = [...this.#waiting.values()];
			this.#waiting.clear();
			for (const asker of askers) asker.reject(partMissing());
		};
		this.#worker = worker;
		return worker;
	}
}

/** The worker's end. `moved`: what of an answer is handed over instead of copied. */
export function answer<Q, A>(work: (question: Q) => A | Promise<A>, moved: (answer: A) => Transferable[] = () => []): void {
	self.onmessage = async ({ data: { id, question } }: MessageEvent<Question<Q>>) => {
		try {
			const found = await work(question);
			self.postMessage({ id, answer: found } satisfies Reply<A>, { transfer: moved(found) });
		} catch (error) {
			self.postMessage({ id, error: error instanceof Error ? error.message : String(error) } satisfies Reply<A>);
		}
	};
}
