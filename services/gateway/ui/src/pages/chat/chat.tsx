/** Talks: with agents, in channels, with machines. Which one is in the URL. */
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { type ReactNode, useEffect } from "react";
import { AgentTalk } from "./agent-talk";
import { ChannelTalk } from "./channel-talk";
import css from "./chat.module.css";
import { useNodes } from "../nodes/data";
import { NodeTalk } from "./node-talk";
import { newSession, Sidebar } from "./sidebar";

export function Chat(): ReactNode {
	const { tenant = "default", channel } = useParams({ strict: false });
	const { agent, session, node } = useSearch({ strict: false });
	const navigate = useNavigate();
	// A talk with an agent begins with a session of its own, so that a reload comes back to it.
	const isNew = channel === undefined && node === undefined && agent !== undefined && session === undefined;
	useEffect(() => {
		if (!isNew || agent === undefined) return;
		void navigate({ to: "/t/$tenant/chat", params: { tenant }, search: { agent, session: newSession() }, replace: true });
	}, [isNew, agent, tenant, navigate]);
	const talk =
		channel !== undefined ? (
			<ChannelTalk key={`${tenant}#${channel}`} tenant={tenant} channel={channel} agent={agent} />
		) : node !== undefined ? (
			<NodeTalk key={`${tenant}@${node}`} tenant={tenant} node={node} />
		) : agent !== undefined && session !== undefined ? (
			<AgentTalk key={`${tenant}/${agent}/${session}`} tenant={tenant} agent={agent} session={session} />
		) : undefined;
	const nodeName = useNodes(tenant).data?.find((one) => one.node_id === node)?.name;
	const title = channel !== undefined ? `# ${channel}` : node !== undefined ? (nodeName ?? node) : agent;
	return (
		<div className={css.page} data-chosen={talk ? "true" : undefined}>
			<h1 className="visually-hidden">Chat{title ? `: ${title}` : ""}</h1>
			<Sidebar tenant={tenant} agent={channel === undefined ? agent : undefined} session={session} channel={channel} node={node} />
			<section className={css.main} aria-label={title ?? "Talk"}>
				{talk && (
					<header className={css.bar}>
						<Link to="/t/$tenant/chat" params={{ tenant }} search={{}} className={css.back}>
							‹ All talks
						</Link>
						<h2>{title}</h2>
						{channel === undefined && agent !== undefined && (
							<>
								<Link to="/t/$tenant/agents/$agent" params={{ tenant, agent }}>
									agent
								</Link>
								<Link to="/t/$tenant/chat" params={{ tenant }} search={{ agent }} preload={false}>
									new talk
								</Link>
							</>
						)}
					</header>
				)}
				{talk ?? <p className={css.empty}>Choose a talk, or begin one with an agent.</p>}
			</section>
		</div>
	);
}
