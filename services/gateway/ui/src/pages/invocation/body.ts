/** A step's recorded parts within the page of the API that holds it alone, cut out as they were written. Pure. */
import { at, slice } from "./slices";

export interface Body {
	readonly input: string;
	readonly output: string;
}

/** `null` where the step is not recorded yet. */
export function bodyIn(page: string): Body | null {
	const part = (name: string) => at(page, ["items", 0, name]);
	const [input, output] = [part("input"), part("output")];
	if (!input || !output) return null;
	return { input: slice(page, input), output: slice(page, output) };
}
