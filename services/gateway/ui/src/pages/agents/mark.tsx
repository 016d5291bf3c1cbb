/** How an agent is: shape and word, not only colour. */
import type { ReactNode } from "react";
import css from "./agents.module.css";
import type { Word } from "./wellness";

const LINES = { fill: "none", stroke: "currentColor", strokeWidth: 1.8 } as const;

const SHAPES: Record<Word, ReactNode> = {
	well: <path d="m3 8.5 3.2 3.2L13 4.8" {...LINES} />,
	failing: <path d="m4 4 8 8m0-8-8 8" {...LINES} />,
	"not placed": <rect x="2.5" y="2.5" width="11" height="11" strokeDasharray="3 2" {...LINES} />,
	"short of replicas": (
		<g>
			<rect x="2.5" y="2.5" width="11" height="11" {...LINES} />
			<rect x="2.5" y="8" width="11" height="5.5" fill="currentColor" />
		</g>
	),
	paused: <path d="M5.5 3v10m5-10v10" {...LINES} />,
	"never published": <circle cx="8" cy="8" r="5.5" strokeDasharray="2 2" {...LINES} />,
};

const TONES: Record<Word, string> = {
	well: css.well ?? "",
	failing: css.unwell ?? "",
	"not placed": css.unwell ?? "",
	"short of replicas": css.waits ?? "",
	paused: css.waits ?? "",
	"never published": css.dim ?? "",
};

export function AgentMark({ word }: { word: Word }): ReactNode {
	return (
		<span className={`${css.mark} ${TONES[word]}`}>
			<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
				{SHAPES[word]}
			</svg>
			<span>{word}</span>
		</span>
	);
}
