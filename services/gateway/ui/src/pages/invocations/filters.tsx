/** States with their counts, chips of the filters that are set, and the line that sets them. */
import { TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useRef, useState } from "react";
import { ask, client } from "../../api/client";
import { useCoalesced } from "../../app/coalesce";
import { useKey } from "../../app/keys";
import type { InvocationSearch } from "../../app/search";
import { Time } from "../../app/time";
import { useTopic } from "../../live/live";
import type { InvocationState } from "../../theme/tokens";
import { Bulk } from "./bulk";
import css from "./invocations.module.css";
import { parse } from "./words";

const STATES: readonly InvocationState[] = ["queued", "running", "waiting", "completed", "failed", "cancelled", "dead"];
/** Counts are read again this often at most, and only after a change. */
const COUNT_PAUSE_MS = 2_000;
const CHIPS = ["agent", "session", "since", "q"] as const;

export function Filters({ tenant, search }: { tenant: string; search: InvocationSearch }): ReactNode {
	const { state: _, ...others } = search;
	const cache = useQueryClient();
	const key = [tenant, "invocations", "counts", others];
	const counts = useQuery({
		queryKey: key,
		queryFn: ({ signal }) => ask(client.GET("/api/v1/invocations/counts", { signal, params: { query: others } })),
	});
	const recount = useCoalesced(() => void cache.invalidateQueries({ queryKey: key }), COUNT_PAUSE_MS);
	useTopic("invocations", { push: (push) => push.event.startsWith("invocation.") && recount(), reset: recount });
	return (
		<>
			<div className={css.filters}>
				<h1 className={css.title}>Invocations</h1>
				<ul aria-label="Filter by state">
					<li>
						<Link to="." search={others} activeOptions={{ exact: true }}>
							all {counts.data?.all.toLocaleString("en")}
						</Link>
					</li>
					{STATES.map((state) => (
						<li key={state}>
							<Link to="." search={{ ...others, state }} activeOptions={{ exact: true }}>
								{state} {counts.data?.[state].toLocaleString("en")}
							</Link>
						</li>
					))}
				</ul>
			</div>
			<div className={css.bar}>
				<Line search={search} />
				<ul className={css.chips} aria-label="Filters">
					{CHIPS.map((name) => {
						const { [name]: value, ...rest } = search;
						if (value === undefined) return null;
						return (
							<li key={name}>
								<Link to="." search={rest} className={css.chip} aria-label={`Remove the filter ${name} ${value}`}>
									{name === "q" ? `"${value}"` : name} {name === "since" ? <Time at={value} /> : name === "q" ? "" : value}{" "}
									<span aria-hidden="true">×</span>
								</Link>
							</li>
						);
					})}
				</ul>
				<span className={css.acts}>{counts.data && <Bulk counts={counts.data} search={search} />}</span>
			</div>
		</>
	);
}

function Line({ search }: { search: InvocationSearch }): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/invocations" });
	const [text, setText] = useState("");
	const field = useRef<HTMLInputElement>(null);
	useKey("/", "filter", () => field.current?.focus());
	return (
		<form
			role="search"
			onSubmit={(event) => {
				event.preventDefault();
				void navigate({ search: { ...search, ...parse(text, Date.now()) } });
				setText("");
				field.current?.blur();
			}}
		>
			<TextInput
				ref={field}
				size="xs"
				w="18rem"
				maw="100%"
				aria-label="Filter: words, or agent:, session:, state:, since:"
				placeholder="/ words, agent:a, session:s, since:24h"
				value={text}
				onChange={(event) => setText(event.currentTarget.value)}
				onKeyDown={(event) => event.key === "Escape" && field.current?.blur()}
			/>
		</form>
	);
}
