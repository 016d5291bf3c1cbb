/** Rows that are not in the list yet: they wait in the pill, unless nobody has touched the list and it is at its top. */
import { useCallback, useEffect, useRef, useState } from "react";
import { useCoalesced } from "../../app/coalesce";
import type { InvocationSearch } from "../../app/search";
import { hear } from "./feed";
import { belongs } from "./fold";

/** At its top the list is read again this often at most. */
const HEAD_PAUSE_MS = 1_000;
const TOP_PX = 40;

interface FreshProps {
	readonly search: InvocationSearch;
	readonly has: (id: string) => boolean;
	/** A row is marked, a dialog is open, …: nothing may move. */
	readonly isTouched: boolean;
	/** Reads the newest rows into the list. */
	readonly readHead: () => Promise<unknown>;
}

export function useFresh({ search, has, isTouched, readHead }: FreshProps): { count: number; show: () => void } {
	const ids = useRef(new Set<string>());
	const [count, setCount] = useState(0);
	const latest = useRef({ search, has, isTouched });
	useEffect(() => {
		latest.current = { search, has, isTouched };
	});
	const show = useCallback(() => {
		const [shown, { search: of }] = [[...ids.current], latest.current];
		ids.current.clear();
		setCount(0);
		readHead().catch(() => {
			// Such as while there is no network: they go on waiting, for the next event or whoever asks for them.
			if (latest.current.search !== of) return;
			for (const id of shown) if (!latest.current.has(id)) ids.current.add(id);
			setCount(ids.current.size);
		});
	}, [readHead]);
	const letIn = useCoalesced(() => {
		if (isStill(latest.current.isTouched)) show();
	}, HEAD_PAUSE_MS);
	// biome-ignore lint/correctness/useExhaustiveDependencies: another filter begins with nothing new.
	useEffect(() => {
		ids.current.clear();
		setCount(0);
	}, [search]);
	useEffect(
		() =>
			hear((told) => {
				const now = latest.current;
				if (!belongs(told, now.search)) ids.current.delete(told.id);
				else if (!now.has(told.id)) ids.current.add(told.id);
				setCount(ids.current.size);
				if (ids.current.size > 0 && isStill(now.isTouched)) letIn();
			}),
		[letIn],
	);
	return { count, show };
}

function isStill(isTouched: boolean): boolean {
	return !isTouched && window.scrollY < TOP_PX && document.getSelection()?.isCollapsed !== false;
}
