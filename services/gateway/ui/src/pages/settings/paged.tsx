/** A list by pages in its pane, read again when the audit says that something of it was changed. */
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useMemo } from "react";
import { type Push, useTopic } from "../../live/live";
import { type Column, Grid } from "../../parts/grid";
import { Pane } from "../../parts/pane";
import { usePending } from "../../parts/pending";
import { Pill } from "../../parts/pill";
import { api, type Page } from "./api";

const PAGE = 100;

interface PagedProps<T> {
	readonly tenant: string;
	/** Last part of the path below `/api/v1/`, with a query. */
	readonly path: string;
	/** What the cache calls it; `invalidate` by the same. */
	readonly name: string;
	readonly label: string;
	readonly columns: readonly Column<T>[];
	readonly id: (item: T) => string;
	readonly empty: ReactNode;
	readonly selected?: string | undefined;
	readonly isAbout: (push: Push) => boolean;
}

export function Paged<T>({
	tenant,
	path,
	name,
	label,
	columns,
	id,
	empty,
	selected,
	isAbout,
}: PagedProps<T>): ReactNode {
	const queries = useQueryClient();
	const readAgain = () => void queries.invalidateQueries({ queryKey: [tenant, name] });
	const pending = usePending(readAgain);
	useTopic("audit", { push: (push) => isAbout(push) && pending.note(), reset: readAgain });
	const pages = useInfiniteQuery({
		queryKey: [tenant, name, path],
		queryFn: ({ signal, pageParam }) => {
			const query = new URLSearchParams({ limit: String(PAGE), ...(pageParam ? { after: pageParam } : {}) });
			return api.get<Page<T>>(`/api/v1/${path}${path.includes("?") ? "&" : "?"}${query}`, signal);
		},
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
	});
	const items = useMemo(() => pages.data?.pages.flatMap((page) => page.items) ?? [], [pages.data]);
	return (
		<Pane query={pages} rows={6} isEmpty={() => items.length === 0} empty={empty}>
			{() => (
				<>
					<Pill count={pending.count} show={pending.show} />
					<Grid
						hasKeys
						label={label}
						columns={columns}
						items={items}
						id={id}
						selected={selected}
						more={() => pages.hasNextPage && !pages.isFetching && void pages.fetchNextPage()}
					/>
				</>
			)}
		</Pane>
	);
}

/** Whether a fact of the audit is of an action that begins so, such as `key.`. */
export function ofAction(prefix: string): (push: Push) => boolean {
	return (push) => {
		const action = (push.data as { action?: unknown } | null)?.action;
		return typeof action === "string" && action.startsWith(prefix);
	};
}
