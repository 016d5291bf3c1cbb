/** The steps from top to bottom and from left to right; only the rows in sight are in the document. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useCallback, useEffect, useId, useRef } from "react";
import { useKey } from "../../app/keys";
import { span } from "../../app/time";
import type { NoteRow, Row, StepRow } from "./rows";
import type { Scale } from "./scale";
import { hasFailed, isWait, type Moment, titleOf, tookMs, waitWords } from "./steps";
import css from "./waterfall.module.css";

const ROW_PX = 28;

interface WaterfallProps {
	readonly rows: readonly Row[];
	readonly scale: Scale;
	readonly history: readonly Moment[];
	/** Key of the row that is shown beside. */
	readonly selected: string | undefined;
	readonly now: number;
	/** Goes along with what comes, until somebody scrolls up. */
	readonly isFollowing: boolean;
	/** Numbers of steps whose child can be opened, and whether it is. */
	readonly openable: ReadonlyMap<number, boolean>;
	select(row: StepRow): void;
	toggle(step: number): void;
	scrolledUp(): void;
}

export function Waterfall(props: WaterfallProps): ReactNode {
	const { rows, scale, selected, isFollowing, select } = props;
	const box = useRef<HTMLDivElement>(null);
	const id = useId();
	const keyOf = useCallback((index: number) => rows[index]?.key ?? index, [rows]);
	const list = useVirtualizer({
		count: rows.length,
		getScrollElement: () => box.current,
		estimateSize: () => ROW_PX,
		overscan: 10,
		getItemKey: keyOf,
	});
	const place = rows.findIndex((row) => row.key === selected);
	const reveal = useRef<string | undefined>(undefined);
	useEffect(() => {
		if (place < 0 || reveal.current === selected) return;
		reveal.current = selected;
		list.scrollToIndex(place, { align: "auto" });
	}, [place, selected, list]);
	useEffect(() => {
		if (isFollowing && rows.length > 0) list.scrollToIndex(rows.length - 1, { align: "end" });
	}, [isFollowing, rows.length, list]);
	const go = (from: number, by: 1 | -1): boolean => {
		for (let at = from + by; at >= 0 && at < rows.length; at += by) {
			const row = rows[at];
			if (row?.type === "step") {
				select(row);
				return true;
			}
		}
		return rows.length > 0;
	};
	useKey("j", "next step", () => go(place, 1));
	useKey("k", "previous step", () => go(place < 0 ? rows.length : place, -1));
	const pressed = (event: KeyboardEvent) => {
		const row = rows[place];
		const open = row?.type === "step" && row.depth === 0 ? props.openable.get(row.step.number) : undefined;
		if (event.key === "ArrowDown") go(place, 1);
		else if (event.key === "ArrowUp") go(place < 0 ? rows.length : place, -1);
		else if (event.key === "Home") go(-1, 1);
		else if (event.key === "End") go(rows.length, -1);
		else if (event.key === "ArrowRight" && open === false && row?.type === "step") props.toggle(row.step.number);
		else if (event.key === "ArrowLeft" && open === true && row?.type === "step") props.toggle(row.step.number);
		else return;
		event.preventDefault();
	};
	const shown = list.getVirtualItems();
	const isSeen = shown.some((row) => row.index === place);
	return (
		<div className={css.waterfall}>
			{scale.breaks.length > 0 && <Axis scale={scale} />}
			<div
				ref={box}
				role="tree"
				aria-label="Steps"
				tabIndex={0}
				aria-activedescendant={isSeen ? `${id}${place}` : undefined}
				className={css.box}
				onKeyDown={pressed}
				onWheel={(event) => event.deltaY < 0 && props.scrolledUp()}
				onTouchMove={() => props.scrolledUp()}
			>
				<div role="presentation" className={css.all} style={{ height: list.getTotalSize() }}>
					{shown.map((item) => {
						const row = rows[item.index];
						if (!row) return null;
						const line = { id: `${id}${item.index}`, top: item.start, place: item.index + 1, of: rows.length };
						return row.type === "note" ? (
							<NoteLine key={item.key} line={line} row={row} />
						) : (
							<StepLine key={item.key} line={line} row={row} {...props} />
						);
					})}
				</div>
			</div>
		</div>
	);
}

interface Line {
	readonly id: string;
	readonly top: number;
	readonly place: number;
	readonly of: number;
}

function NoteLine({ line, row: { note } }: { line: Line; row: NoteRow }): ReactNode {
	return (
		<div
			id={line.id}
			role="treeitem"
			aria-level={1}
			aria-posinset={line.place}
			aria-setsize={line.of}
			aria-disabled="true"
			aria-selected="false"
			className={css.note}
			data-kind={note.kind}
			style={{ transform: `translateY(${line.top}px)` }}
			title={note.text}
		>
			<span>{note.text}</span>
		</div>
	);
}

function StepLine(props: WaterfallProps & { line: Line; row: StepRow }): ReactNode {
	const { line, row, scale, history, now, selected, select, toggle } = props;
	const { step, depth, bracket, beginsTurn } = row;
	const open = depth === 0 ? props.openable.get(step.number) : undefined;
	const failed = hasFailed(step);
	const said = failed ? (step.error?.detail ?? step.error?.title) : depth === 0 ? waitWords(step, history, now) : undefined;
	return (
		// biome-ignore lint/a11y/useKeyWithClickEvents: the tree has the keys.
		<div
			id={line.id}
			role="treeitem"
			aria-level={depth + 1}
			aria-posinset={line.place}
			aria-setsize={line.of}
			aria-selected={row.key === selected}
			{...(open === undefined ? {} : { "aria-expanded": open })}
			className={css.row}
			data-turn={beginsTurn && line.place > 1 ? "begins" : undefined}
			data-depth={depth}
			style={{ transform: `translateY(${line.top}px)` }}
			onClick={() => select(row)}
		>
			<span className={css.number} data-bracket={bracket}>
				{step.number}
			</span>
			<span className={css.name}>
				{open !== undefined && (
					// biome-ignore lint/a11y/useKeyWithClickEvents: left and right do it.
					// biome-ignore lint/a11y/noStaticElementInteractions: a part of the row.
					<span
						className={css.fold}
						aria-hidden="true"
						onClick={(event) => {
							event.stopPropagation();
							toggle(step.number);
						}}
					>
						{open ? "▾" : "▸"}
					</span>
				)}
				<span className={css.what} data-failed={failed}>
					{failed && <span aria-hidden="true">✕ </span>}
					{titleOf(step)}
					{step.attempt > 1 && <span className={css.dim}> try {step.attempt}</span>}
					{failed && <span className="visually-hidden"> failed</span>}
				</span>
				{said && (
					<span className={css.said} title={said}>
						{said}
					</span>
				)}
			</span>
			<Lane row={row} scale={scale} />
			<span className={css.took}>{step.ended_at ? span(tookMs(step, now)) : isWait(step) ? "waits" : "runs"}</span>
		</div>
	);
}

/** Share of a lane as CSS writes it. */
function percent(share: number): string {
	return `${(share * 100).toFixed(3)}%`;
}

function Lane({ row, scale }: { row: StepRow; scale: Scale }): ReactNode {
	const { step, bar } = row;
	const tries = Math.min(step.attempt, 8);
	const kind = isWait(step) ? "wait" : step.kind === "model" ? "model" : step.kind === "tool" || step.kind === "child" ? "tool" : "other";
	return (
		<span className={css.lane} aria-hidden="true">
			{scale.breaks.map((gap) => (
				<span key={gap.at} className={css.gap} style={{ left: percent(gap.at), width: percent(gap.width) }} />
			))}
			<span
				className={css.bar}
				data-kind={kind}
				data-open={step.ended_at ? undefined : "true"}
				style={{ left: percent(bar.from), width: percent(bar.to - bar.from) }}
			>
				{Array.from({ length: tries }, (_, index) => (
					<span key={index.toString()} data-failed={index < tries - 1 || hasFailed(step) ? "true" : undefined} />
				))}
			</span>
		</span>
	);
}

/** What the folded gaps leave out. */
function Axis({ scale }: { scale: Scale }): ReactNode {
	return (
		<div className={css.axis}>
			<span className={css.lane}>
				{scale.breaks.map((gap) => (
					<span key={gap.at} className={css.left} style={{ left: percent(gap.at + gap.width / 2) }}>
						~ {span(gap.ms)} ~
					</span>
				))}
			</span>
		</div>
	);
}
