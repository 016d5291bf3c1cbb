/** A state is shape and word, not only colour: to some eyes completed and failed have the same one. */
import type { ReactNode } from "react";
import { type InvocationState, stateColour } from "../theme/tokens";
import css from "./state.module.css";

const SHAPES: Record<InvocationState, ReactNode> = {
	queued: <circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" strokeWidth="1.8" />,
	cancelled: (
		<g fill="none" stroke="currentColor" strokeWidth="1.8">
			<circle cx="8" cy="8" r="5.5" />
			<path d="M4 12 12 4" />
		</g>
	),
	running: (
		<g>
			<circle cx="8" cy="8" r="5.5" fill="none" stroke="currentColor" strokeWidth="1.8" />
			<path d="M8 2.5a5.5 5.5 0 0 1 0 11Z" fill="currentColor" />
		</g>
	),
	waiting: (
		<g fill="none" stroke="currentColor" strokeWidth="1.8" strokeLinecap="round">
			<circle cx="8" cy="8" r="5.5" />
			<path d="M8 5v3l2 1.5" />
		</g>
	),
	completed: <path d="m3 8.5 3.2 3.2L13 4.8" fill="none" stroke="currentColor" strokeWidth="2.2" />,
	failed: <path d="m4 4 8 8m0-8-8 8" fill="none" stroke="currentColor" strokeWidth="2.2" />,
	dead: (
		<g fill="none" stroke="currentColor" strokeWidth="1.8">
			<rect x="2.5" y="2.5" width="11" height="11" />
			<path d="m5 5 6 6m0-6-6 6" />
		</g>
	),
};

export function StateMark({ state, bare = false }: { state: InvocationState; bare?: boolean }): ReactNode {
	return (
		<span className={css.mark} style={{ color: `var(--${stateColour[state]})` }}>
			<svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
				{SHAPES[state]}
			</svg>
			<span className={bare ? "visually-hidden" : undefined}>{state}</span>
		</span>
	);
}
