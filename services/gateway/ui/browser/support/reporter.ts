/** Figures that tests noted, and the closing line that `cargo xtask test` adds up; the form is cargo-nextest's. */
import type { FullResult, Reporter, TestCase, TestResult } from "@playwright/test/reporter";

/** So many tests may need a second try in a run; with more something is wrong with the page or the tests. */
const SECOND_TRIES_MAX = 2;

export default class Summary implements Reporter {
	#passed = 0;
	#failed = 0;
	#skipped = 0;
	#again = 0;
	readonly #figures: string[] = [];

	onTestEnd(test: TestCase, result: TestResult): void {
		const project = test.parent.project()?.name ?? "";
		for (const { type, description } of result.annotations) {
			if (type !== "skip" && description !== undefined) this.#figures.push(`${type} (${project}): ${description}`);
		}
		if (result.status === "passed") this.#passed++;
		else if (result.status === "skipped") this.#skipped++;
		else if (result.retry < test.retries) {
			this.#again++;
			this.#figures.push(`tried once more (${project}): ${test.title}: ${firstLine(result)}`);
		} else this.#failed++;
	}

	onEnd(result: FullResult): Promise<{ status: FullResult["status"] }> {
		const status = this.#again > SECOND_TRIES_MAX ? "failed" : result.status;
		if (status !== result.status) console.log(`  more than ${SECOND_TRIES_MAX} tests were tried once more: that is no coincidence`);
		// A run that could not begin has no failing test to count.
		const failed = this.#failed + (status !== "passed" && this.#failed === 0 ? 1 : 0);
		const run = this.#passed + failed;
		for (const figure of this.#figures) console.log(`  ${figure}`);
		const seconds = (result.duration / 1_000).toFixed(1);
		console.log(`Summary [ ${seconds}s] ${run} tests run: ${this.#passed} passed, ${failed} failed, ${this.#skipped} skipped`);
		return Promise.resolve({ status });
	}
}

function firstLine(result: TestResult): string {
	return result.error?.message?.split("\n")[0] ?? result.status;
}
