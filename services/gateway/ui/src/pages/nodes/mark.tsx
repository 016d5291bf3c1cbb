/** A node's state as shape and word; no two share either. */
import type { ReactNode } from "react";
import css from "./nodes.module.css";
import type { NodeWord } from "./state";

const SHAPES: Record<NodeWord, ReactNode> = {
	online: <circle cx="8" cy="8" r="4.5" fill="currentColor" />,
	silent: <circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" strokeWidth="1.8" strokeDasharray="2 2.6" />,
	deaf: (
		<g fill="none" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round">
			<path d="M4 6v4h2l3 3V3L6 6Z" />
			<path d="m11.5 6 3 4m0-4-3 4" />
		</g>
	),
	draining: <path d="M8 2v9m-4-4 4 4 4-4" fill="none" stroke="currentColor" strokeWidth="1.8" />,
	drained: <path d="M8 1v8M4.5 5.5 8 9l3.5-3.5M3 13.5h10" fill="none" stroke="currentColor" strokeWidth="1.8" />,
	degraded: <path d="M8 2 14.5 13.5h-13ZM8 6.5v3.5m0 1v1.2" fill="none" stroke="currentColor" strokeWidth="1.6" />,
	asleep: <path d="M10.5 2.5a6 6 0 1 0 3 8 5 5 0 0 1-3-8Z" fill="none" stroke="currentColor" strokeWidth="1.6" />,
	"never seen": <rect x="3" y="3" width="10" height="10" fill="none" stroke="currentColor" strokeDasharray="2 2" />,
};

const COLOURS: Record<NodeWord, string> = {
	online: "completed",
	silent: "failed",
	deaf: "dead",
	draining: "accent",
	drained: "dim",
	degraded: "waiting",
	asleep: "dim",
	"never seen": "dim",
};

export function NodeMark({ word }: { word: NodeWord }): ReactNode {
	return (
		<span className={css.mark} style={{ color: `var(--${COLOURS[word]})` }}>
			<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
				{SHAPES[word]}
			</svg>
			{word}
		</span>
	);
}
