/** Where a pasted id leads. */

export type Found =
	| { readonly kind: "invocation"; readonly id: string }
	| { readonly kind: "dead letter"; readonly id: string }
	| { readonly kind: "memory"; readonly id: string };

const FORMS = [
	["invocation", /\binv_[0-9A-HJKMNP-TV-Z]{26}\b/i],
	["dead letter", /\bdlq?_[0-9A-HJKMNP-TV-Z]{26}\b/i],
	["memory", /\bmem_[0-9A-HJKMNP-TV-Z]{26}\b/i],
] as const;

/** The first id in a text, such as one copied with its line of a log. */
export function idIn(text: string): Found | undefined {
	for (const [kind, form] of FORMS) {
		const found = form.exec(text);
		if (found) return { kind, id: found[0].slice(0, 4).toLowerCase() + found[0].slice(4).toUpperCase() };
	}
	return undefined;
}

/** How well words match a name: 0 not, higher is better. All words must be in it. */
export function score(name: string, words: string): number {
	const low = name.toLowerCase();
	let sum = 1;
	for (const word of words.toLowerCase().split(/\s+/).filter(Boolean)) {
		const at = low.indexOf(word);
		if (at < 0) return 0;
		sum += at === 0 ? 3 : /\W/.test(low[at - 1] ?? "") ? 2 : 1;
	}
	return sum;
}
