/** A channel: messages of people and agents. Who answers is chosen beside the field. */
import { NativeSelect } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useMemo } from "react";
import { ask, client, type Schema } from "../../api/client";
import { useMe } from "../../app/session";
import { Time } from "../../app/time";
import { Trouble } from "../../parts/pane";
import { useAgents } from "../agents/data";
import { Answer } from "./answer";
import css from "./chat.module.css";
import { keepTurn, keys, type Message, useInvocationPushes, useMessages, useTurns } from "./data";
import { type Invocation, isEnded } from "./fold";
import { ProseView } from "./prose-view";
import { Composer, type Item, Said, Talk } from "./talk";

interface ChannelTalkProps {
	readonly tenant: string;
	readonly channel: string;
	/** Who answers. */
	readonly agent: string | undefined;
}

export function ChannelTalk({ tenant, channel, agent }: ChannelTalkProps): ReactNode {
	const queries = useQueryClient();
	const { messages, items, keep } = useMessages(tenant, channel);
	const { items: turns } = useTurns(tenant, undefined, channel);
	useInvocationPushes(tenant, ({ session }) => session === channel);
	const send = async (text: string) => {
		const params = { path: { channel } };
		const body = { text } as unknown as Schema["NewMessage"];
		const message = await ask(client.POST("/api/v1/channels/{channel}/messages", { params, body }));
		keep(message);
		void queries.invalidateQueries({ queryKey: keys.channels(tenant) });
		if (agent === undefined) return;
		const request = {
			entrypoint: "channel_message",
			session: channel,
			payload: { channel_id: channel, message_id: message.id, text },
		} as unknown as Schema["InvokeRequest"];
		const asked = { params: { path: { agent } }, body: request };
		keepTurn(queries, tenant, await ask(client.POST("/api/v1/agents/{agent}/invocations", asked)));
	};
	const { actor } = useMe();
	const shown = useMemo(() => rows(tenant, items, turns, actor), [tenant, items, turns, actor]);
	return (
		<Talk
			label={`Channel ${channel}`}
			items={shown}
			older={messages.hasNextPage && !messages.isFetching ? () => void messages.fetchNextPage() : undefined}
			empty={
				messages.isError ? (
					<Trouble error={messages.error} retry={() => void messages.refetch()} />
				) : messages.isPending ? null : (
					<p>Nobody has written in {channel} yet. The first message creates it.</p>
				)
			}
		>
			<Composer
				key={channel}
				place={`${tenant}/#${channel}`}
				label={`Message to ${channel}`}
				least="service"
				extra={<Answers tenant={tenant} channel={channel} agent={agent} />}
				send={send}
			/>
		</Talk>
	);
}

/** Messages, then the answers that are still made or have failed since. */
function rows(tenant: string, items: readonly Message[], turns: readonly Invocation[], actor: string): Item[] {
	const posted = new Set(items.map((message) => message.metadata?.invocation));
	const newest = items.at(-1)?.created_at ?? "";
	const open = turns
		.filter((turn) => !posted.has(turn.id) && (!isEnded(turn.state) || (turn.state !== "completed" && turn.created_at > newest)))
		.toReversed();
	return [
		...items.map((message) => ({
			key: message.id,
			isOwn: message.author.id === actor,
			view: <MessageView tenant={tenant} message={message} />,
		})),
		...open.map((turn) => ({ key: turn.id, view: <Answer tenant={tenant} turn={turn} isBrief /> })),
	];
}

function MessageView({ tenant, message }: { tenant: string; message: Message }): ReactNode {
	const me = useMe();
	const { kind, id } = message.author;
	if (kind !== "agent") {
		return <Said who={id === me.actor ? "you" : id} text={message.text} at={<Time at={message.created_at} />} />;
	}
	const invocation = message.metadata?.invocation;
	return (
		<article className={css.answer} aria-label={`${id} said`}>
			<header className={css.head}>
				<strong>{id}</strong>
				{typeof invocation === "string" && (
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: invocation }} aria-label={`Invocation ${invocation}`}>
						invocation
					</Link>
				)}
				<span className={css.dim}>
					<Time at={message.created_at} />
					{message.metadata?.provider === "mock" && " · mock"}
				</span>
			</header>
			<ProseView text={message.text} />
		</article>
	);
}

function Answers({ tenant, channel, agent }: ChannelTalkProps): ReactNode {
	const navigate = useNavigate();
	const agents = useAgents(tenant).data ?? [];
	const names = agents.filter(({ status }) => status.published).map(({ metadata }) => metadata.name);
	return (
		<label className={css.choice}>
			<span>answers</span>
			<NativeSelect
				size="xs"
				value={agent ?? ""}
				data={[{ value: "", label: "nobody" }, ...names.map((name) => ({ value: name, label: name }))]}
				onChange={(event) => {
					const name = event.currentTarget.value;
					void navigate({
						to: "/t/$tenant/chat/$channel",
						params: { tenant, channel },
						search: name === "" ? {} : { agent: name },
						replace: true,
					});
				}}
			/>
		</label>
	);
}
