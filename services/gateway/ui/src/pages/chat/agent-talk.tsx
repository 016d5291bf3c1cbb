/** A talk with an agent: the turns of one session, each an invocation. */
import { Skeleton } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useMemo, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import { Time } from "../../app/time";
import { Trouble } from "../../parts/pane";
import { useAgent } from "../agents/data";
import { Answer } from "./answer";
import css from "./chat.module.css";
import { keepTurn, turnQuery, useInvocationPushes, useTurns } from "./data";
import { type Invocation, saidIn } from "./fold";
import { brought } from "./sessions";
import { Composer, type Item, Said, Talk } from "./talk";

/** Messages that go along where the agent does not say how many. */
const RECENT = 10;

interface AgentTalkProps {
	readonly tenant: string;
	readonly agent: string;
	readonly session: string;
}

export function AgentTalk({ tenant, agent, session }: AgentTalkProps): ReactNode {
	const queries = useQueryClient();
	const view = useAgent(tenant, agent);
	const { turns, items } = useTurns(tenant, agent, session);
	const [pending, setPending] = useState<string>();
	useInvocationPushes(tenant, (told) => told.session === session && (told.agent === undefined || told.agent === agent));
	const send = async (text: string) => {
		setPending(text);
		try {
			const recent = view.data?.spec.context?.recent ?? RECENT;
			const last = items.slice(0, Math.ceil(recent / 2)).map(({ id }) => queries.ensureQueryData(turnQuery(tenant, id)));
			const messages = brought(await Promise.all(last), recent);
			const payload = messages.length > 0 ? { text, messages } : { text };
			const body = { payload, session } as unknown as Schema["InvokeRequest"];
			const params = { path: { agent } };
			keepTurn(queries, tenant, await ask(client.POST("/api/v1/agents/{agent}/invocations", { params, body })));
		} finally {
			setPending(undefined);
		}
	};
	const shown = useMemo(() => {
		const rows = items.toReversed().map(
			(turn): Item => ({
				key: turn.id,
				view: <TurnView tenant={tenant} listed={turn} />,
			}),
		);
		return pending === undefined ? rows : [...rows, { key: "pending", isOwn: true, view: <Said who="you" text={pending} at="sending…" /> }];
	}, [items, pending, tenant]);
	const isPublished = view.data === undefined || view.data.status.published !== null;
	return (
		<Talk
			label={`Talk with ${agent}`}
			items={shown}
			older={turns.hasNextPage && !turns.isFetching ? () => void turns.fetchNextPage() : undefined}
			empty={
				turns.isError ? (
					<Trouble error={turns.error} retry={() => void turns.refetch()} />
				) : turns.isPending ? (
					<div role="status" aria-busy="true">
						<span className="visually-hidden">Loading</span>
						<Skeleton height={64} width="16rem" />
					</div>
				) : (
					<p>
						A new talk with {agent}. The same on the command line:{" "}
						<code>
							mesh invoke {agent} "hello" --session {session}
						</code>
					</p>
				)
			}
		>
			<Composer
				key={`${agent}/${session}`}
				place={`${tenant}/${agent}/${session}`}
				label={`Message to ${agent}`}
				least="service"
				barred={isPublished ? undefined : `${agent} was never published`}
				extra={<span className={css.dim}>session {session}</span>}
				send={send}
			/>
		</Talk>
	);
}

/** One question and its answer. Only turns in sight are read in full. */
function TurnView({ tenant, listed }: { tenant: string; listed: Invocation }): ReactNode {
	const turn = useQuery(turnQuery(tenant, listed.id));
	if (turn.isError) return <Trouble error={turn.error} retry={() => void turn.refetch()} />;
	if (!turn.data) return <Skeleton height={64} my={8} aria-label="Loading a turn" />;
	return (
		<>
			<Said who="you" text={saidIn(turn.data.payload)} at={<Time at={turn.data.created_at} />} />
			<Answer tenant={tenant} turn={turn.data} />
		</>
	);
}
