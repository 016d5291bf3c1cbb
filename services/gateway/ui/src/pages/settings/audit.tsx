/** Who did, or tried, what: with what was before and after, and whether the chain of facts is whole. */
import { Button, SegmentedControl, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import type { Schema } from "../../api/client";
import { covers, useMe } from "../../app/session";
import { Time } from "../../app/time";
import { Command, Copy } from "../../parts/command";
import { Empty } from "../../parts/empty";
import type { Column } from "../../parts/grid";
import { useFilterKey } from "../../parts/filter-key";
import { Pane } from "../../parts/pane";
import { Section } from "../../parts/section";
import { api, type Verified } from "./api";
import { changes } from "./changes";
import { Paged } from "./paged";
import { outcomes, type SettingsSearch } from "./search";
import css from "./settings.module.css";

type Fact = Schema["AuditFact"];

export function Audit({ tenant, search }: { tenant: string; search: SettingsSearch }): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/settings" });
	const { outcome, action } = search;
	const query = new URLSearchParams({ ...(outcome ? { outcome } : {}), ...(action ? { action } : {}) }).toString();
	const isFiltered = query !== "";
	return (
		<>
			<Chain tenant={tenant} />
			<Section title="Facts" aside={<Filters search={search} />}>
				<Paged<Fact>
					tenant={tenant}
					path={`audit${isFiltered ? `?${query}` : ""}`}
					name="audit"
					label="Facts of the audit, newest first"
					columns={COLUMNS}
					id={(fact) => fact.id}
					isAbout={() => true}
					selected={search.fact}
					empty={
						<Empty
							says={isFiltered ? "Nothing of that was done or tried." : "Nothing was done or tried yet."}
							command="mesh audit"
							clear={isFiltered ? () => void navigate({ search: { tab: "audit" } }) : undefined}
						/>
					}
				/>
			</Section>
		</>
	);
}

function Filters({ search }: { search: SettingsSearch }): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/settings" });
	const field = useFilterKey();
	const set = (change: { outcome?: SettingsSearch["outcome"] | undefined; action?: string | undefined }) =>
		void navigate({
			search: (old) =>
				Object.fromEntries(Object.entries({ ...old, ...change }).filter(([, value]) => value)) as SettingsSearch,
			replace: true,
		});
	return (
		<search className={css.filters}>
			<SegmentedControl
				size="xs"
				aria-label="Outcome"
				value={search.outcome ?? "all"}
				onChange={(value) => set({ outcome: outcomes.find((known) => known === value) })}
				data={["all", ...outcomes]}
			/>
			<TextInput
				key={search.action ?? ""}
				size="xs"
				aria-label="Only this action"
				placeholder="action, such as node.enroll"
				ref={field}
				defaultValue={search.action ?? ""}
				onBlur={(event) => set({ action: event.currentTarget.value.trim() || undefined })}
				onKeyDown={(event) => event.key === "Enter" && set({ action: event.currentTarget.value.trim() || undefined })}
			/>
		</search>
	);
}

const COLUMNS: readonly Column<Fact>[] = [
	{ key: "at", head: "At", width: "9rem", narrow: { width: "minmax(0, 1fr)" }, cell: (fact) => <Time at={fact.at} /> },
	{
		key: "actor",
		head: "Who",
		width: "minmax(6rem, .8fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (fact) => fact.actor,
	},
	{
		key: "what",
		head: "What",
		width: "minmax(10rem, 1.2fr)",
		cell: (fact) => (
			<>
				<Link to="." search={(old) => ({ ...old, action: fact.action })}>
					{fact.action}
				</Link>{" "}
				<span className={css.subject} title={fact.subject}>
					{fact.subject}
				</span>
			</>
		),
	},
	{
		key: "outcome",
		head: "Outcome",
		width: "minmax(8rem, 1fr)",
		cell: (fact) => (
			<>
				{fact.outcome === "refused" ? <strong className={css.refused}>✗ refused</strong> : "✓ done"}
				{fact.reason && <span className={css.dim}> {fact.reason}</span>}
			</>
		),
	},
	{ key: "change", head: "Before and after", width: "minmax(12rem, 2fr)", cell: (fact) => <Change fact={fact} /> },
];

function Change({ fact }: { fact: Fact }): ReactNode {
	const all = changes(fact.before, fact.after);
	return (
		<>
			{all.length > 0 && (
				<ul className={css.changes}>
					{all.map((change) => (
						<li key={change.path}>
							<span className={css.dim}>{change.path}</span> {change.before !== undefined && <del>{change.before}</del>}{" "}
							{change.after !== undefined && <ins>{change.after}</ins>}
						</li>
					))}
				</ul>
			)}
			{fact.request_id && (
				<span className={css.dim}>
					request <code>{fact.request_id}</code>
				</span>
			)}
		</>
	);
}

/** Computing the chain again takes a while: only when asked. */
function Chain({ tenant }: { tenant: string }): ReactNode {
	const [isAsked, setAsked] = useState(false);
	const may = covers(useMe().role, "owner");
	const chain = useQuery({
		queryKey: [tenant, "audit-chain"],
		queryFn: ({ signal }) => api.get<Verified>("/api/v1/audit/verify", signal),
		enabled: isAsked,
		staleTime: 0,
		gcTime: 0,
	});
	const ask = () => (isAsked ? void chain.refetch() : setAsked(true));
	return (
		<Section
			title="Chain"
			aside={
				<>
					<Button
						size="compact-sm"
						variant="default"
						disabled={!may}
						title={may ? undefined : "needs role owner"}
						loading={chain.isFetching}
						onClick={ask}
					>
						Verify
					</Button>
					<Command text="mesh audit verify" isFolded />
				</>
			}
		>
			{isAsked ? (
				<Pane query={chain} rows={1}>
					{(verified) => <ChainSaid verified={verified} />}
				</Pane>
			) : (
				<p className={css.dim}>
					Each fact carries the hash of the one before it. Verifying computes all of them again.
				</p>
			)}
		</Section>
	);
}

function ChainSaid({ verified }: { verified: Verified }): ReactNode {
	const { intact, checked, pruned, unchained, head, broken } = verified;
	return (
		<div role="status">
			<p>
				{intact ? (
					<strong className={css.whole}>✓ whole</strong>
				) : (
					<strong className={css.refused}>
						✗ broken{broken && ` at place ${broken.seq}${broken.id ? `, ${broken.id}` : ""}: ${broken.why}`}
					</strong>
				)}
				, {checked.toLocaleString("en")} facts computed again
				{pruned > 0 && `, ${pruned.toLocaleString("en")} older ones pruned by age`}
				{unchained > 0 && `, ${unchained.toLocaleString("en")} get their place within seconds`}.
			</p>
			<p className={css.dim}>
				Head <code>{head}</code> <Copy text={head} what="the head of the chain" /> Keep it somewhere else; with{" "}
				<code>?noted=</code> a chain that was written anew shows too.
			</p>
		</div>
	);
}
