/** The rows of the list, of which only those in sight are in the document. */
import { useMediaQuery } from "@mantine/hooks";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { Link, useNavigate } from "@tanstack/react-router";
import { memo, type ReactNode, useCallback, useEffect, useMemo, useRef } from "react";
import type { InvocationSearch } from "../../app/search";
import { isComfortable } from "../../app/settings";
import { useStore } from "../../app/store";
import { span, Time } from "../../app/time";
import { useRowKeys } from "../../parts/rows";
import { StateMark } from "../../parts/state";
import { toldOf, version } from "./feed";
import { hasLeft, type Invocation, why, withTold } from "./fold";
import css from "./invocations.module.css";

/** Read further when this many rows are left below. */
const AHEAD = 40;
/** Which row was marked under which filter: Back finds it again. */
const marks = new Map<string, string>();

interface RowsProps {
	readonly tenant: string;
	readonly search: InvocationSearch;
	readonly items: readonly Invocation[];
	readonly onMark: (isMarked: boolean) => void;
	readonly more: () => void;
}

function useRowHeight(): number {
	const isNarrow = useMediaQuery("(max-width: 767px)");
	const isTouch = useMediaQuery("(pointer: coarse)");
	const comfortable = useStore(isComfortable);
	return isNarrow ? 52 : isTouch ? 44 : comfortable ? 36 : 28;
}

export function Rows({ tenant, search, items, onMark, more }: RowsProps): ReactNode {
	useStore(version);
	const list = useRef<HTMLDivElement>(null);
	const height = useRowHeight();
	// The same function while the rows are the same: another one would lay out all of them again, at each frame.
	const keyOf = useCallback((index: number) => items[index]?.id ?? index, [items]);
	const rows = useWindowVirtualizer({
		count: items.length,
		estimateSize: () => height,
		overscan: 12,
		scrollMargin: list.current?.offsetTop ?? 0,
		scrollPaddingStart: 60,
		scrollPaddingEnd: 60,
		getItemKey: keyOf,
	});
	// biome-ignore lint/correctness/useExhaustiveDependencies: another height is another list.
	useEffect(() => rows.measure(), [height]);
	const { current, mark } = useMarks(tenant, search, items, onMark, (index) => rows.scrollToIndex(index, { align: "auto" }));
	const shown = rows.getVirtualItems();
	const last = shown.at(-1)?.index ?? 0;
	useEffect(() => {
		if (last >= items.length - AHEAD) more();
	}, [last, items.length, more]);
	return (
		<div ref={list} role="table" aria-rowcount={items.length + 1} aria-label="Invocations" className={css.table}>
			<div role="rowgroup">
				<div role="row" aria-rowindex={1} className={css.head}>
					{["state", "agent", "why", "begun", "took", "cost"].map((name) => (
						<span key={name} role="columnheader">
							{name}
						</span>
					))}
				</div>
			</div>
			<div role="rowgroup" style={{ height: rows.getTotalSize(), position: "relative" }}>
				{shown.map((row) => {
					const read = items[row.index];
					if (!read) return null;
					const item = withTold(read, toldOf(read.id));
					return (
						<div
							key={row.key}
							role="row"
							aria-rowindex={row.index + 2}
							className={css.row}
							data-marked={row.index === current || undefined}
							data-left={hasLeft(item, search) || undefined}
							style={{ height, transform: `translateY(${row.start - rows.options.scrollMargin}px)` }}
							onPointerDown={() => mark(row.index)}
						>
							<Cells tenant={tenant} item={item} isMarked={row.index === current} />
						</div>
					);
				})}
			</div>
		</div>
	);
}

function useMarks(
	tenant: string,
	search: InvocationSearch,
	items: readonly Invocation[],
	onMark: (isMarked: boolean) => void,
	reveal: (index: number) => void,
) {
	const navigate = useNavigate();
	const key = JSON.stringify([tenant, search]);
	const ids = useMemo(() => items.map((item) => item.id), [items]);
	return useRowKeys({
		ids,
		initial: marks.get(key),
		reveal,
		open: (index) => {
			const id = ids[index];
			if (id) void navigate({ to: "/t/$tenant/invocations/$id", params: { tenant, id } });
		},
		onMark: (id) => {
			if (id) marks.set(key, id);
			onMark(id !== undefined);
		},
	});
}

interface CellsProps {
	readonly tenant: string;
	readonly item: Invocation;
	readonly isMarked: boolean;
}

const Cells = memo(function Cells({ tenant, item, isMarked }: CellsProps): ReactNode {
	const link = useRef<HTMLAnchorElement>(null);
	useEffect(() => {
		// The mark is where the focus is, so that readers hear it and Enter opens it.
		if (isMarked) link.current?.focus({ preventScroll: true });
	}, [isMarked]);
	const took = item.ended_at ? Date.parse(item.ended_at) - Date.parse(item.created_at) : undefined;
	const cost = item.usage.cost_usd ?? 0;
	return (
		<>
			<span role="cell">
				<StateMark state={item.state} />
			</span>
			<span role="cell" className={css.agent}>
				<Link ref={link} to="/t/$tenant/invocations/$id" params={{ tenant, id: item.id }} className={css.open}>
					{item.agent}@{item.version}
				</Link>
			</span>
			<span role="cell" className={css.why}>
				{why(item)}
			</span>
			<span role="cell" className={css.number}>
				<Time at={item.created_at} />
			</span>
			<span role="cell" className={css.number}>
				{took === undefined ? "" : span(took)}
			</span>
			<span role="cell" className={css.number}>
				{cost > 0 ? `$${cost.toFixed(cost < 0.01 ? 4 : 3)}` : ""}
			</span>
		</>
	);
});
