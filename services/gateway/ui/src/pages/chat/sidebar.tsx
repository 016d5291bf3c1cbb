/** Talks to choose from: with agents by session, channels, machines. */
import { Button, NativeSelect, TextInput } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { randomKey } from "../../api/client";
import { Time } from "../../app/time";
import { useKey } from "../../app/keys";
import { Pane } from "../../parts/pane";
import { StateMark } from "../../parts/state";
import { useAgents } from "../agents/data";
import { useNodes } from "../nodes/data";
import css from "./chat.module.css";
import { useChannels, useConversations } from "./data";
import { isEnded } from "./fold";
import type { Conversation } from "./sessions";

/** Rows of a list; the rest is found by its name or among the invocations. */
const SHOWN_MAX = 50;

/** Else a talk counts as current beside the one whose search part has more. */
const EXACT = { exact: true } as const;

export function newSession(): string {
	return `chat-${randomKey().slice(0, 10)}`;
}

interface SidebarProps {
	readonly tenant: string;
	readonly agent: string | undefined;
	readonly session: string | undefined;
	readonly channel: string | undefined;
	readonly node: string | undefined;
}

export function Sidebar({ tenant, agent, session, channel, node }: SidebarProps): ReactNode {
	const { recent, found } = useConversations(tenant);
	const channels = useChannels(tenant);
	const nodes = useNodes(tenant).data ?? [];
	return (
		<nav className={css.side} aria-label="Talks">
			<Begin tenant={tenant} />
			<h2>With agents</h2>
			<Pane query={recent} rows={3}>
				{() => (
					<ul>
						{found.slice(0, SHOWN_MAX).map((one) => (
							<li key={`${one.agent}/${one.session}`}>
								<TalkLink tenant={tenant} one={one} isHere={one.agent === agent && one.session === session} />
							</li>
						))}
						{found.length === 0 && <li className={css.dim}>none of late</li>}
					</ul>
				)}
			</Pane>
			<h2>Channels</h2>
			<Pane query={channels} rows={2}>
				{(all) => (
					<ul>
						{all.slice(0, SHOWN_MAX).map((one) => (
							<li key={one.id}>
								<Link
									activeOptions={EXACT}
									to="/t/$tenant/chat/$channel"
									params={{ tenant, channel: one.id }}
									aria-current={one.id === channel ? "page" : undefined}
								>
									<span className={css.row}># {one.id}</span>
									<span className={css.dim}>{one.last_message_at && <Time at={one.last_message_at} />}</span>
								</Link>
							</li>
						))}
					</ul>
				)}
			</Pane>
			<OpenChannel tenant={tenant} />
			{nodes.length > 0 && <h2>Machines</h2>}
			<ul>
				{nodes.slice(0, SHOWN_MAX).map((one) => (
					<li key={one.node_id}>
						<Link
							activeOptions={EXACT}
							to="/t/$tenant/chat"
							params={{ tenant }}
							search={{ node: one.node_id }}
							aria-current={one.node_id === node ? "page" : undefined}
						>
							<span className={css.row}>{one.name}</span>
							<span className={css.dim}>
								{one.mode}, {one.status}
							</span>
						</Link>
					</li>
				))}
			</ul>
		</nav>
	);
}

function TalkLink({ tenant, one, isHere }: { tenant: string; one: Conversation; isHere: boolean }): ReactNode {
	return (
		<Link
			activeOptions={EXACT}
			to="/t/$tenant/chat"
			params={{ tenant }}
			search={{ agent: one.agent, session: one.session }}
			aria-current={isHere ? "page" : undefined}
		>
			<span className={css.row}>
				<strong>{one.agent}</strong> {!isEnded(one.state) && <StateMark state={one.state} />}
			</span>
			<span className={css.dim}>
				<Time at={one.at} />
			</span>
			<span className={css.last}>{one.said}</span>
		</Link>
	);
}

function Begin({ tenant }: { tenant: string }): ReactNode {
	const navigate = useNavigate();
	const agents = (useAgents(tenant).data ?? []).filter(({ status }) => status.published);
	const [chosen, setChosen] = useState("");
	const agent = chosen || agents[0]?.metadata.name;
	const begin = () => {
		if (!agent) return;
		void navigate({ to: "/t/$tenant/chat", params: { tenant }, search: { agent, session: newSession() } });
	};
	useKey("c", "new talk", begin);
	return (
		<form
			className={css.begin}
			onSubmit={(event) => {
				event.preventDefault();
				begin();
			}}
		>
			<NativeSelect
				size="xs"
				aria-label="Agent to talk with"
				value={agent ?? ""}
				data={agents.map(({ metadata }) => metadata.name)}
				onChange={(event) => setChosen(event.currentTarget.value)}
			/>
			<Button type="submit" size="compact-sm" disabled={agent === undefined}>
				New talk
			</Button>
		</form>
	);
}

const NAME = /^[A-Za-z0-9_-]{1,64}$/;

/** A channel is named by its maker; writing in it creates it. */
function OpenChannel({ tenant }: { tenant: string }): ReactNode {
	const navigate = useNavigate();
	const [name, setName] = useState("");
	const isName = NAME.test(name);
	return (
		<form
			className={css.begin}
			onSubmit={(event) => {
				event.preventDefault();
				if (!isName) return;
				setName("");
				void navigate({ to: "/t/$tenant/chat/$channel", params: { tenant, channel: name } });
			}}
		>
			<TextInput
				size="xs"
				aria-label="Name of a channel"
				placeholder="channel"
				value={name}
				error={name !== "" && !isName ? "letters, digits, _ and -" : undefined}
				onChange={(event) => setName(event.currentTarget.value)}
			/>
			<Button type="submit" size="compact-sm" variant="default" disabled={!isName}>
				Open
			</Button>
		</form>
	);
}
