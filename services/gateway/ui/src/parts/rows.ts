/** Keys of a list: `j` `k` and arrows move a mark, Enter opens; the mark stays with its row's id. */
import { useCallback, useMemo, useState } from "react";
import { useKey } from "../app/keys";

export interface RowKeys {
	/** Index of the marked row, -1 for none. */
	readonly current: number;
	readonly mark: (index: number) => void;
}

interface RowKeysProps {
	/** Ids of the rows in their order. */
	readonly ids: readonly string[];
	open(index: number): void;
	/** Brings a row into sight, and best also into focus. */
	reveal(index: number): void;
	/** The row that a URL or a page come back to has marked. */
	readonly initial?: string | undefined;
	onMark?(id: string | undefined): void;
}

export function useRowKeys({ ids, open, reveal, initial, onMark }: RowKeysProps): RowKeys {
	const [marked, setMarked] = useState<string | undefined>(initial);
	const places = useMemo(() => new Map(ids.map((id, index) => [id, index])), [ids]);
	const current = marked === undefined ? -1 : (places.get(marked) ?? -1);
	const mark = useCallback(
		(index: number) => {
			setMarked(ids[index]);
			onMark?.(ids[index]);
		},
		[ids, onMark],
	);
	const move = (to: number): boolean => {
		if (ids.length === 0) return false;
		const index = Math.max(0, Math.min(ids.length - 1, to));
		mark(index);
		reveal(index);
		return true;
	};
	useKey("j", "next row", () => move(current + 1));
	useKey("k", "previous row", () => move(Math.max(0, current - 1)));
	useKey("ArrowDown", "next row", (event) => (isScroller(event) ? false : move(current + 1)));
	useKey("ArrowUp", "previous row", (event) => (isScroller(event) ? false : move(Math.max(0, current - 1))));
	useKey("Enter", "open the row", (event) => {
		// A focused link or button does its own thing.
		if (current < 0 || (event.target instanceof HTMLElement && event.target.closest("a,button,summary"))) return false;
		open(current);
	});
	return { current, mark };
}

/** Arrows belong to tabs, menus and trees while one of these has the focus. */
function isScroller(event: KeyboardEvent): boolean {
	const target = event.target;
	return (
		target instanceof HTMLElement &&
		target.closest('[role="tablist"],[role="menu"],[role="listbox"],[role="tree"],[role="dialog"]') !== null
	);
}
