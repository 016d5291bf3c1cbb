/** What differs between two texts, line by line; long runs of the same are folded. */
import { type ReactNode, useMemo, useState } from "react";
import css from "./agents.module.css";
import { counted, diffLines, folded, type Line, type Part } from "./diff";

export function Difference({ before, after, label }: { before: string; after: string; label: string }): ReactNode {
	const parts = useMemo(() => folded(diffLines(before, after)), [before, after]);
	if (before === after) return <p className={css.dim}>Nothing differs.</p>;
	return (
		<div className={css.difference} role="region" aria-label={label} tabIndex={0}>
			{parts.map((part) => (
				<PartView key={partKey(part)} part={part} />
			))}
		</div>
	);
}

/** The line that a part begins with is its own. */
function partKey(part: Part): string {
	const first = part.lines[0];
	return `${part.kind}:${first?.before ?? ""}:${first?.after ?? ""}`;
}

function PartView({ part }: { part: Part }): ReactNode {
	const [isOpen, setOpen] = useState(false);
	if (part.kind === "fold" && !isOpen) {
		return (
			<button type="button" className={css.unfold} onClick={() => setOpen(true)}>
				{part.lines.length === 1 ? "1 line is" : `${part.lines.length} lines are`} the same
			</button>
		);
	}
	return part.lines.map((line) => <LineView key={`${line.before ?? ""}:${line.after ?? ""}`} line={line} />);
}

const MARKS = { same: " ", gone: "−", new: "+" } as const;

function LineView({ line }: { line: Line }): ReactNode {
	return (
		<div className={css.line} data-kind={line.kind}>
			<span className={css.lineNumber} aria-hidden="true">
				{line.before ?? ""}
			</span>
			<span className={css.lineNumber} aria-hidden="true">
				{line.after ?? ""}
			</span>
			<code>
				{MARKS[line.kind]} {line.text}
			</code>
		</div>
	);
}

/** `+3 −1`, read as words. */
export function Changes({ before, after }: { before: string; after: string }): ReactNode {
	const { gone, fresh } = useMemo(() => counted(diffLines(before, after)), [before, after]);
	if (gone === 0 && fresh === 0) return null;
	return (
		<span role="img" aria-label={`${fresh} lines more, ${gone} lines gone`} className={css.changes}>
			+{fresh} −{gone}
		</span>
	);
}
