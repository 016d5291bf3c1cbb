/** A table of rows: columns side by side, on a narrow screen stacked. Of many rows only those in sight are in the document. */
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useCallback, useEffect, useMemo, useRef } from "react";
import css from "./grid.module.css";
import { GridKeys } from "./grid-keys";

export interface Column<T> {
	readonly key: string;
	readonly head: string;
	/** A track of `grid-template-columns`. */
	readonly width: string;
	/** Where there is little room: as wide as `narrow` says, a line of its own, or nowhere. Default: a line of its own. */
	readonly narrow?: "line" | "hide" | { readonly width: string };
	readonly isNumber?: boolean;
	readonly cell: (item: T) => ReactNode;
}

interface GridProps<T> {
	/** What the rows are, for those who hear it. */
	readonly label: string;
	readonly columns: readonly Column<T>[];
	readonly items: readonly T[];
	readonly id: (item: T) => string;
	readonly selected?: string | undefined;
	/** The main list of its page: `j`, `k` and Enter are its own. */
	readonly hasKeys?: boolean;
	/** Called when the last rows come in sight. */
	readonly more?: () => void;
}

/** More rows than this are windowed. */
const PLAIN_MAX = 100;
const ROW_PX = 30;

export function Grid<T>({ label, columns, items, id, selected, hasKeys = false, more }: GridProps<T>): ReactNode {
	const table = useRef<HTMLDivElement>(null);
	const scroll = useRef<(index: number) => void>(() => {});
	// biome-ignore lint/correctness/useExhaustiveDependencies: `id` is a pure function of an item.
	const ids = useMemo(() => items.map(id), [items]);
	const tracks = {
		"--columns": columns.map((column) => column.width).join(" "),
		"--narrow": columns.flatMap((column) => (typeof column.narrow === "object" ? [column.narrow.width] : [])).join(" "),
	} as React.CSSProperties;
	const rows = { columns, items, id, selected, more, scroll };
	return (
		<div
			ref={table}
			role="table"
			aria-label={label}
			aria-rowcount={items.length + 1}
			className={css.table}
			style={tracks}
		>
			{hasKeys && <GridKeys table={table} ids={ids} fetch={(index) => scroll.current(index)} />}
			<div role="rowgroup">
				<div role="row" aria-rowindex={1} className={css.head}>
					{columns.map((column) => (
						<span key={column.key} role="columnheader" className={classes(column)}>
							{column.head}
						</span>
					))}
				</div>
			</div>
			{items.length > PLAIN_MAX ? <Windowed {...rows} /> : <Plain {...rows} />}
		</div>
	);
}

type Rows<T> = Omit<GridProps<T>, "label" | "more" | "hasKeys"> & {
	more: (() => void) | undefined;
	/** Set by rows that are windowed: scrolls one into the document. */
	scroll: React.RefObject<(index: number) => void>;
};

function Plain<T>({ columns, items, id, selected, more }: Rows<T>): ReactNode {
	const latest = useRef(more);
	latest.current = more;
	useEffect(() => {
		if (items.length > 0) latest.current?.();
	}, [items.length]);
	return (
		<div role="rowgroup">
			{items.map((item, index) => (
				<div
					key={id(item)}
					role="row"
					aria-rowindex={index + 2}
					aria-current={selected === id(item) ? "true" : undefined}
					data-row={id(item)}
					className={css.row}
				>
					<Cells columns={columns} item={item} />
				</div>
			))}
		</div>
	);
}

function Windowed<T>({ columns, items, id, selected, more, scroll }: Rows<T>): ReactNode {
	const list = useRef<HTMLDivElement>(null);
	// The same function while the rows are the same: another one would lay out all of them again, at each frame.
	const keyOf = useCallback(
		(index: number) => {
			const item = items[index];
			return item === undefined ? index : id(item);
		},
		[items, id],
	);
	const rows = useWindowVirtualizer({
		count: items.length,
		estimateSize: () => ROW_PX,
		overscan: 12,
		scrollMargin: list.current?.offsetTop ?? 0,
		getItemKey: keyOf,
	});
	useEffect(() => {
		scroll.current = (index) => rows.scrollToIndex(index, { align: "auto" });
	}, [rows, scroll]);
	const shown = rows.getVirtualItems();
	const last = shown.at(-1)?.index ?? 0;
	const latest = useRef(more);
	latest.current = more;
	useEffect(() => {
		if (last >= items.length - 20) latest.current?.();
	}, [last, items.length]);
	return (
		<div ref={list} role="rowgroup" className={css.window} style={{ height: rows.getTotalSize() }}>
			{shown.map((row) => {
				const item = items[row.index];
				if (item === undefined) return null;
				return (
					<div
						key={row.key}
						ref={rows.measureElement}
						data-index={row.index}
						role="row"
						aria-rowindex={row.index + 2}
						aria-current={selected === id(item) ? "true" : undefined}
						data-row={id(item)}
						className={css.row}
						style={{ transform: `translateY(${row.start - rows.options.scrollMargin}px)` }}
					>
						<Cells columns={columns} item={item} />
					</div>
				);
			})}
		</div>
	);
}

function Cells<T>({ columns, item }: { columns: readonly Column<T>[]; item: T }): ReactNode {
	return columns.map((column, index) => (
		<span
			key={column.key}
			role="cell"
			className={classes(column)}
			data-head={index === 0 || column.key === "acts" ? undefined : column.head}
		>
			{column.cell(item)}
		</span>
	));
}

function classes<T>(column: Column<T>): string {
	const narrow = typeof column.narrow === "object" ? undefined : css[column.narrow ?? "line"];
	return [css.cell, narrow, column.isNumber ? css.end : undefined].filter(Boolean).join(" ");
}
