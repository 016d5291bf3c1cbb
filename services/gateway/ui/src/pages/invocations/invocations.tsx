/** Which invocations, and why are they as they are? */
import { type InfiniteData, useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useCallback, useMemo, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import type { InvocationSearch } from "../../app/search";
import { Empty } from "../../parts/empty";
import { Pane } from "../../parts/pane";
import { Pill } from "../../parts/pill";
import { Filters } from "./filters";
import { withHead } from "./fold";
import { useFresh } from "./fresh";
import { Rows } from "./rows";

const PAGE = 200;

type Page = Schema["Page_Invocation"];

function read(search: InvocationSearch, after?: string, signal?: AbortSignal): Promise<Page> {
	const query = { ...search, limit: PAGE, ...(after ? { after } : {}) };
	return ask(client.GET("/api/v1/invocations", { params: { query }, ...(signal ? { signal } : {}) }));
}

export function Invocations(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/invocations" });
	const search = useSearch({ from: "/t/$tenant/invocations" });
	return (
		<>
			<Filters tenant={tenant} search={search} />
			<List key={JSON.stringify([tenant, search])} tenant={tenant} search={search} />
		</>
	);
}

function List({ tenant, search }: { tenant: string; search: InvocationSearch }): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/invocations" });
	const cache = useQueryClient();
	const key = useMemo(() => [tenant, "invocations", "list", search], [tenant, search]);
	const pages = useInfiniteQuery({
		queryKey: key,
		queryFn: ({ signal, pageParam }) => read(search, pageParam, signal),
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
		// What changed meanwhile was told to `feed`: coming back shows the same rows at the same place.
		refetchOnMount: false,
	});
	const items = useMemo(() => pages.data?.pages.flatMap((page) => page.items) ?? [], [pages.data]);
	const ids = useMemo(() => new Set(items.map((item) => item.id)), [items]);
	const [isTouched, setTouched] = useState(false);
	const readHead = useCallback(async () => {
		const head = await read(search);
		cache.setQueryData<InfiniteData<Page, string>>(key, (old) => {
			const [first, ...rest] = old?.pages ?? [];
			const known = new Set(first?.items.map((item) => item.id));
			// More came than a page holds, or a row from further back: the list begins anew.
			const joins = first !== undefined && head.items.some((item) => known.has(item.id));
			if (!old || !joins || search.state !== undefined) return { pages: [head], pageParams: [""] };
			return { ...old, pages: [{ ...first, items: withHead(first.items, head.items) }, ...rest] };
		});
	}, [cache, key, search]);
	const has = useCallback((id: string) => ids.has(id), [ids]);
	const fresh = useFresh({ search, has, isTouched, readHead });
	const isFiltered = Object.keys(search).length > 0;
	return (
		<>
			<Pill count={fresh.count} what={search.q ? "new, not searched" : "new"} show={fresh.show} />
			<Pane
				query={pages}
				rows={12}
				isEmpty={() => items.length === 0}
				empty={
					<Empty
						says={isFiltered ? "Nothing matches." : "No invocation yet."}
						command='mesh invoke sofia "hello"'
						clear={isFiltered ? () => void navigate({ search: {} }) : undefined}
					/>
				}
			>
				{() => (
					<Rows
						tenant={tenant}
						search={search}
						items={items}
						onMark={setTouched}
						more={() => pages.hasNextPage && !pages.isFetching && void pages.fetchNextPage()}
					/>
				)}
			</Pane>
		</>
	);
}
