/** Text of a model as blocks and spans: code, emphasis, lists. Never HTML, images or addresses to follow. */

export interface Span {
	readonly kind: "plain" | "code" | "strong" | "emphasis";
	readonly text: string;
}

export type Prose =
	| { readonly kind: "code"; readonly language: string; readonly text: string }
	| { readonly kind: "heading" | "text"; readonly spans: readonly Span[] }
	| { readonly kind: "list"; readonly isOrdered: boolean; readonly items: readonly (readonly Span[])[] };

const FENCE = /^\s{0,3}(```+|~~~+)\s*([\w+-]*)\s*$/;
const ITEM = /^\s{0,3}(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;

export function prose(text: string): Prose[] {
	const found: Prose[] = [];
	let plain: string[] = [];
	const flush = () => {
		if (plain.some((line) => line.trim() !== "")) found.push({ kind: "text", spans: spans(plain.join("\n").replace(/^\n+|\n+$/g, "")) });
		plain = [];
	};
	const lines = text.split("\n");
	for (let at = 0; at < lines.length; at++) {
		const line = lines[at] ?? "";
		const fence = FENCE.exec(line);
		if (fence) {
			flush();
			const end = lines.findIndex((other, index) => index > at && other.trim() === fence[1]);
			// While it streams, the end is not there yet.
			const code = lines.slice(at + 1, end < 0 ? undefined : end);
			found.push({ kind: "code", language: fence[2] ?? "", text: code.join("\n") });
			at = end < 0 ? lines.length : end;
			continue;
		}
		const heading = HEADING.exec(line);
		if (heading) {
			flush();
			found.push({ kind: "heading", spans: spans(heading[1] ?? "") });
			continue;
		}
		const item = ITEM.exec(line);
		if (item) {
			flush();
			addItem(found, item[1] !== undefined, spans(item[2] ?? ""));
			continue;
		}
		if (line.trim() === "") flush();
		else plain.push(line);
	}
	flush();
	return found;
}

function addItem(found: Prose[], isOrdered: boolean, item: readonly Span[]): void {
	const last = found.at(-1);
	if (last?.kind === "list" && last.isOrdered === isOrdered) {
		found[found.length - 1] = { ...last, items: [...last.items, item] };
	} else {
		found.push({ kind: "list", isOrdered, items: [item] });
	}
}

const SPANS = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|(?<![\w*])\*([^*\s][^*\n]*)\*(?![\w*])/g;

function spans(text: string): Span[] {
	const found: Span[] = [];
	let from = 0;
	for (const match of text.matchAll(SPANS)) {
		if (match.index > from) found.push({ kind: "plain", text: text.slice(from, match.index) });
		if (match[1] !== undefined) found.push({ kind: "code", text: match[1] });
		else if (match[2] !== undefined) found.push({ kind: "strong", text: match[2] });
		else found.push({ kind: "emphasis", text: match[3] ?? "" });
		from = match.index + match[0].length;
	}
	if (from < text.length) found.push({ kind: "plain", text: text.slice(from) });
	return found;
}
