/** The YAML side of the editor: CodeMirror, loaded when it is needed. What is wrong is marked in its line. */
import { autocompletion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, lintKeymap, setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { type ReactNode, useEffect, useRef } from "react";
import { nonce } from "../../../app/nonce";
import { offers } from "./complete";
import type { Mark } from "./document";
import { agentForm } from "./form";
import css from "./form.module.css";

interface EditorProps {
	readonly value: string;
	readonly marks: readonly Mark[];
	readonly isFixed: boolean;
	readonly label: string;
	change(text: string): void;
}

/** Lines above that are read to know where something stands. */
const LINES_READ_MAX = 400;

const look = EditorView.theme({
	"&": { backgroundColor: "var(--surface)", color: "var(--text)", fontSize: "0.75rem" },
	"&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-2px" },
	".cm-content": { fontFamily: "var(--mantine-font-family-monospace)", caretColor: "var(--text)" },
	".cm-cursor": { borderLeftColor: "var(--text)" },
	".cm-gutters": { backgroundColor: "var(--canvas)", color: "var(--dim)", border: "none" },
	".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "color-mix(in srgb, var(--accent) 7%, transparent)" },
	".cm-selectionBackground, &.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground": {
		backgroundColor: "color-mix(in srgb, var(--accent) 25%, transparent)",
	},
	".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--text)", border: "1px solid var(--edge)" },
	".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--selected)", color: "var(--text)" },
	".cm-diagnostic-error": { borderLeftColor: "var(--failed)" },
});

const colours = HighlightStyle.define([
	{ tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--accent)" },
	{ tag: tags.comment, color: "var(--dim)", fontStyle: "italic" },
	{ tag: [tags.string, tags.special(tags.string)], color: "var(--completed)" },
	{ tag: [tags.number, tags.bool, tags.null, tags.keyword], color: "var(--waiting)" },
]);

function complete(context: CompletionContext): CompletionResult | null {
	const line = context.state.doc.lineAt(context.pos);
	const first = Math.max(1, line.number - LINES_READ_MAX);
	const from = context.state.doc.line(first).from;
	const lines = context.state.sliceDoc(from, line.to).split("\n");
	const offer = offers(lines, context.pos - line.from, agentForm);
	if (!offer || (!context.explicit && offer.from === context.pos - line.from)) return null;
	return { from: line.from + offer.from, options: [...offer.options], validFor: /^[\w-]*$/ };
}

export function YamlEditor({ value, marks, isFixed, label, change }: EditorProps): ReactNode {
	const place = useRef<HTMLDivElement>(null);
	const view = useRef<EditorView>(null);
	const latest = useRef(change);
	const fixed = useRef(new Compartment());
	const first = useRef({ value, isFixed, label });
	useEffect(() => {
		latest.current = change;
	});
	useEffect(() => {
		if (!place.current) return;
		const { value: doc, isFixed: isReadOnly, label: name } = first.current;
		const state = EditorState.create({
			doc,
			extensions: [
				EditorView.cspNonce.of(nonce),
				EditorView.contentAttributes.of({ "aria-label": name }),
				EditorView.lineWrapping,
				EditorState.tabSize.of(2),
				fixed.current.of(EditorState.readOnly.of(isReadOnly)),
				lineNumbers(),
				history(),
				drawSelection(),
				indentOnInput(),
				bracketMatching(),
				highlightActiveLine(),
				autocompletion({ override: [complete], icons: false }),
				lintGutter(),
				yaml(),
				syntaxHighlighting(colours),
				look,
				// Tab leaves the editor, as everywhere on the page.
				keymap.of([...lintKeymap, ...defaultKeymap, ...historyKeymap]),
				EditorView.updateListener.of((update) => {
					const isOurs = update.transactions.some((one) => one.isUserEvent("set"));
					if (update.docChanged && !isOurs) latest.current(update.state.doc.toString());
				}),
			],
		});
		const made = new EditorView({ state, parent: place.current });
		view.current = made;
		return () => {
			made.destroy();
			view.current = null;
		};
	}, []);
	useEffect(() => {
		const to = view.current;
		if (!to || to.state.doc.toString() === value) return;
		to.dispatch({ changes: difference(to.state.doc.toString(), value), userEvent: "set" });
	}, [value]);
	useEffect(() => {
		view.current?.dispatch({ effects: fixed.current.reconfigure(EditorState.readOnly.of(isFixed)) });
	}, [isFixed]);
	useEffect(() => {
		const to = view.current;
		if (!to) return;
		const length = to.state.doc.length;
		const within = (at: number) => Math.min(at, length);
		const shown = marks.map(({ from, to: end, message }) => ({
			from: within(from),
			to: within(Math.max(end, from)),
			message,
			severity: "error" as const,
		}));
		to.dispatch(setDiagnostics(to.state, shown));
	}, [marks]);
	return <div ref={place} className={css.editor} />;
}

/** Only what differs is replaced, so that cursor and scroll stay where they are. */
function difference(before: string, after: string): { from: number; to: number; insert: string } {
	let from = 0;
	while (from < before.length && from < after.length && before[from] === after[from]) from++;
	let tail = 0;
	const most = Math.min(before.length, after.length) - from;
	while (tail < most && before.at(-1 - tail) === after.at(-1 - tail)) tail++;
	return { from, to: before.length - tail, insert: after.slice(from, after.length - tail) };
}
