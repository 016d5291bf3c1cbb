/** What should be and what is, why they differ, and what passes did about it. */
import { Modal } from "@mantine/core";
import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { ask, client } from "../../api/client";
import { useKey } from "../../app/keys";
import { Time } from "../../app/time";
import { useTopic } from "../../live/live";
import { type Column, Grid } from "../../parts/grid";
import { Empty } from "../../parts/empty";
import { Pane } from "../../parts/pane";
import { usePending } from "../../parts/pending";
import { Pill } from "../../parts/pill";
import { Section } from "../../parts/section";
import { useBrain } from "../nodes/data";
import { DryRun } from "./dry-run";
import { type AgentRow, agentRows, type Brain, type Pass } from "./fold";
import { Passes } from "./passes";
import css from "./reconciler.module.css";

const PAGE = 100;

export function Reconciler(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/reconciler" });
	const { agent, pass } = useSearch({ from: "/t/$tenant/reconciler" });
	const brain = useBrain(tenant);
	const { passes, pending } = usePasses(tenant);
	const items = useMemo(() => passes.data?.pages.flatMap((page) => page.items) ?? [], [passes.data]);
	return (
		<Section title="Reconciler" level={1} aside={<PlanButton tenant={tenant} />}>
			<Pane query={brain} rows={4}>
				{(seen) => <Agents tenant={tenant} brain={seen} passes={items} agent={agent} />}
			</Pane>
			<Section title={agent === undefined ? "Passes" : `Passes about ${agent}`} aside={<AllAgents agent={agent} />}>
				<Pill count={pending.count} show={pending.show} />
				<Pane
					query={passes}
					rows={8}
					isEmpty={() => items.length === 0}
					empty={<Empty says="No pass yet: the reconciler starts with its service." command="mesh brain" />}
				>
					{() => (
						<Passes
							tenant={tenant}
							passes={items}
							agent={agent}
							open={pass}
							nodes={brain.data?.nodes ?? []}
							more={passes.hasNextPage ? () => void passes.fetchNextPage() : undefined}
							isReading={passes.isFetchingNextPage}
						/>
					)}
				</Pane>
			</Section>
		</Section>
	);
}

function usePasses(tenant: string) {
	const queries = useQueryClient();
	const queryKey = [tenant, "passes"];
	const readAgain = () => void queries.invalidateQueries({ queryKey });
	const pending = usePending(readAgain);
	useTopic("passes", { push: pending.note, reset: readAgain });
	const passes = useInfiniteQuery({
		queryKey,
		queryFn: ({ signal, pageParam }) =>
			ask(
				client.GET("/api/v1/passes", {
					signal,
					params: { query: { limit: PAGE, ...(pageParam ? { after: pageParam } : {}) } },
				}),
			),
		initialPageParam: "",
		getNextPageParam: (last) => last.next ?? undefined,
	});
	return { passes, pending };
}

function AllAgents({ agent }: { agent: string | undefined }): ReactNode {
	if (agent === undefined) return null;
	return (
		<Link to="." search={{}}>
			of all agents
		</Link>
	);
}

/** The next pass in the same sentences; it changes nothing. */
function PlanButton({ tenant }: { tenant: string }): ReactNode {
	const [isOpen, setOpen] = useState(false);
	useKey("p", "dry run: what the next pass would do", () => setOpen(true));
	return (
		<>
			<button type="button" className={css.button} onClick={() => setOpen(true)}>
				Dry run <kbd>p</kbd>
			</button>
			<Modal
				opened={isOpen}
				onClose={() => setOpen(false)}
				title="The next pass, not applied"
				size="lg"
				closeButtonProps={{ "aria-label": "Close" }}
			>
				{isOpen && <DryRun tenant={tenant} />}
			</Modal>
		</>
	);
}

interface AgentsProps {
	readonly tenant: string;
	readonly brain: Brain;
	readonly passes: readonly Pass[];
	readonly agent: string | undefined;
}

function Agents({ tenant, brain, passes, agent }: AgentsProps): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/reconciler" });
	const rows = useMemo(() => agentRows(brain, passes), [brain, passes]);
	const shown = agent === undefined ? rows : rows.filter((row) => row.agent === agent);
	const differing = rows.filter((row) => row.drift !== "").length;
	return (
		<>
			<p className={css.said}>
				{differing === 0
					? "All is as it should be."
					: `${differing} of ${rows.length} placed agents are not as they should be.`}{" "}
				<span className={css.dim}>
					{brain.leader ? `Epoch ${brain.epoch}, led by ${brain.leader}.` : "Nobody leads: nothing is placed."} As of{" "}
					<Time at={brain.at} />
				</span>
			</p>
			{rows.length === 0 ? (
				<Empty says="No published agent declares a placement, so there is nothing to place." command="mesh new agent" />
			) : shown.length === 0 ? (
				<Empty says={`${agent} declares no placement.`} clear={() => void navigate({ search: {} })} />
			) : (
				<Grid
					hasKeys
					label="Agents that are placed on nodes"
					columns={columnsOf(tenant)}
					items={shown}
					id={(row) => row.agent}
					selected={agent}
				/>
			)}
		</>
	);
}

function columnsOf(tenant: string): Column<AgentRow>[] {
	return [
		{
			key: "agent",
			head: "Agent",
			width: "minmax(6rem, .8fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (row) => (
				<Link to="." search={{ agent: row.agent }}>
					{row.agent}
				</Link>
			),
		},
		{ key: "want", head: "Want", width: "4.5rem", narrow: { width: "5rem" }, cell: (row) => row.want },
		{ key: "have", head: "Have", width: "minmax(8rem, 1.4fr)", cell: (row) => <Have tenant={tenant} row={row} /> },
		{
			key: "drift",
			head: "Drift",
			width: "minmax(6rem, 1fr)",
			cell: (row) => (row.drift === "" ? <span className={css.dim}>none</span> : <strong>{row.drift}</strong>),
		},
		{
			key: "why",
			head: "Why, since, next try",
			width: "minmax(10rem, 2fr)",
			cell: (row) => <Why row={row} />,
		},
		{
			key: "work",
			head: "Work",
			width: "7.5rem",
			cell: (row) => (
				<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ agent: row.agent }}>
					{row.running} running, {row.waiting} waiting
				</Link>
			),
		},
	];
}

function Have({ tenant, row }: { tenant: string; row: AgentRow }): ReactNode {
	if (row.have.length === 0) return <span className={css.dim}>none</span>;
	return row.have.map((one, index) => (
		<div key={`${one.node ?? ""}-${index.toString()}`}>
			{one.node === undefined ? (
				one.words
			) : (
				<Link to="/t/$tenant/nodes/$node" params={{ tenant, node: one.node }}>
					{one.words}
				</Link>
			)}
		</div>
	));
}

function Why({ row }: { row: AgentRow }): ReactNode {
	if (row.drift === "") return null;
	return (
		<>
			{row.why || "the next pass sees to it"}
			<span className={css.dim}>
				{row.since && (
					<>
						{" "}
						· since <Time at={row.since} />
					</>
				)}
				{row.next && (
					<>
						{" "}
						· next try <Time at={row.next} />
					</>
				)}
			</span>
		</>
	);
}
