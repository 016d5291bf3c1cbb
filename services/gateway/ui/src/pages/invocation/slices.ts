/** Where values lie in a JSON text: what was recorded is shown as it was written, and 5 MB are not parsed to see a part. */

export interface Range {
	readonly start: number;
	/** Behind the last character. */
	readonly end: number;
}

export interface Member {
	/** Of an object; unescaped. */
	readonly key?: string;
	readonly value: Range;
}

const QUOTE = 34;
const BACKSLASH = 92;
const [BRACE, BRACE_END, BRACKET, BRACKET_END] = [123, 125, 91, 93];

/** The value that begins at or after `from`. The text is JSON: it came from the API. */
export function valueAt(text: string, from: number): Range {
	const start = skipSpace(text, from);
	const first = text.charCodeAt(start);
	if (first === QUOTE) return { start, end: stringEnd(text, start) };
	if (first === BRACE || first === BRACKET) return { start, end: containerEnd(text, start) };
	let end = start;
	while (end < text.length && !",}] \n\r\t".includes(text.charAt(end))) end += 1;
	return { start, end };
}

/** Where members begin, one after the other: the end of one is sought only when the next one is asked for. */
function* begins(text: string, container: number): Generator<{ key?: string; start: number }> {
	const isObject = text.charCodeAt(container) === BRACE;
	if (!isObject && text.charCodeAt(container) !== BRACKET) return;
	let at = skipSpace(text, container + 1);
	while (at < text.length && text.charCodeAt(at) !== BRACE_END && text.charCodeAt(at) !== BRACKET_END) {
		if (isObject) {
			const end = stringEnd(text, at);
			const start = skipSpace(text, skipSpace(text, end) + 1);
			yield { key: JSON.parse(text.slice(at, end)) as string, start };
			at = start;
		} else {
			yield { start: at };
		}
		at = skipSpace(text, valueAt(text, at).end);
		if (text.charAt(at) === ",") at = skipSpace(text, at + 1);
	}
}

/** The members of an object, or the items of an array, one level deep. Of anything else: none. */
export function members(text: string, of: Range): Member[] {
	const found = [...begins(text, of.start)];
	return found.map(({ key, start }) => {
		const value = valueAt(text, start);
		return key === undefined ? { value } : { key, value };
	});
}

/** The value under a path of names and indices; what lies behind it is not looked at. */
export function at(text: string, path: readonly (string | number)[]): Range | undefined {
	let place: number | undefined = skipSpace(text, 0);
	for (const part of path) {
		let [found, index]: [number | undefined, number] = [undefined, 0];
		for (const member of begins(text, place)) {
			if (typeof part === "number" ? index === part : member.key === part) {
				found = member.start;
				break;
			}
			index += 1;
		}
		if (found === undefined) return undefined;
		place = found;
	}
	return valueAt(text, place);
}

export function slice(text: string, range: Range): string {
	return text.slice(range.start, range.end);
}

/** The value parsed: numbers beyond 2^53 lose digits, so only what is no number is taken from it. */
export function parsed(text: string, range: Range): unknown {
	return JSON.parse(slice(text, range));
}

/** The same JSON in lines, two spaces deep, each number and string as it was written. */
export function indented(text: string, range: Range = valueAt(text, 0), depth = 0): string {
	const inside = members(text, range);
	const isObject = text.charCodeAt(range.start) === BRACE;
	if (inside.length === 0) return slice(text, range);
	const pad = "  ".repeat(depth + 1);
	const lines = inside.map(({ key, value }) => {
		const name = key === undefined ? "" : `${JSON.stringify(key)}: `;
		return `${pad}${name}${indented(text, value, depth + 1)}`;
	});
	const [open, close] = isObject ? ["{", "}"] : ["[", "]"];
	return `${open}\n${lines.join(",\n")}\n${"  ".repeat(depth)}${close}`;
}

function skipSpace(text: string, from: number): number {
	let at = from;
	while (at < text.length && text.charCodeAt(at) <= 32) at += 1;
	return at;
}

function stringEnd(text: string, start: number): number {
	let at = start + 1;
	for (;;) {
		const quote = text.indexOf('"', at);
		if (quote < 0) return text.length;
		let slashes = 0;
		while (text.charCodeAt(quote - 1 - slashes) === BACKSLASH) slashes += 1;
		if (slashes % 2 === 0) return quote + 1;
		at = quote + 1;
	}
}

function containerEnd(text: string, start: number): number {
	let depth = 0;
	for (let at = start; at < text.length; at += 1) {
		const code = text.charCodeAt(at);
		if (code === QUOTE) at = stringEnd(text, at) - 1;
		else if (code === BRACE || code === BRACKET) depth += 1;
		else if (code === BRACE_END || code === BRACKET_END) {
			depth -= 1;
			if (depth === 0) return at + 1;
		}
	}
	return text.length;
}
