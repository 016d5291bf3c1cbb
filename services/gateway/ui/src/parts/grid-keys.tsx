/** Keys of a `Grid`: `j` `k` move from row to row, Enter opens; who comes back by the browser finds his row again. */
import { useLocation } from "@tanstack/react-router";
import { type RefObject, useEffect } from "react";
import { useRowKeys } from "./rows";

/** By entry of the browser's history: which row one was at. */
const places = new Map<string, string>();

interface GridKeysProps {
	readonly table: RefObject<HTMLDivElement | null>;
	readonly ids: readonly string[];
	/** Brings a row into the document that is not there. */
	readonly fetch: (index: number) => void;
}

export function GridKeys({ table, ids, fetch }: GridKeysProps): undefined {
	const entry = useLocation({ select: (location) => location.state.__TSR_key ?? "" });
	const link = (index: number) => {
		const row = table.current?.querySelector(`[data-row="${CSS.escape(ids[index] ?? "")}"]`);
		return row?.querySelector<HTMLElement>("a, button") ?? undefined;
	};
	const reveal = (index: number) => {
		const now = link(index);
		if (now) return now.focus();
		fetch(index);
		requestAnimationFrame(() => link(index)?.focus());
	};
	useRowKeys({ ids, open: (index) => link(index)?.click(), reveal });
	// biome-ignore lint/correctness/useExhaustiveDependencies: once for each entry, when there are rows.
	useEffect(() => {
		const place = places.get(entry);
		const index = place === undefined ? -1 : ids.indexOf(place);
		if (index >= 0 && document.activeElement === document.body) reveal(index);
	}, [entry, ids.length > 0]);
	useEffect(() => {
		const element = table.current;
		const note = (event: FocusEvent) => {
			const row = event.target instanceof HTMLElement ? event.target.closest<HTMLElement>("[data-row]") : null;
			if (row?.dataset.row) places.set(entry, row.dataset.row);
		};
		element?.addEventListener("focusin", note);
		return () => element?.removeEventListener("focusin", note);
	}, [entry, table]);
	return undefined;
}
