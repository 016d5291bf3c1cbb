/** A trial of the published version: a talk in a session of its own. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode, useEffect } from "react";
import { randomKey } from "../../api/client";
import { AgentTalk } from "../chat/agent-talk";
import chat from "../chat/chat.module.css";
import css from "./agents.module.css";
import type { AgentView } from "./data";

interface TrialProps {
	readonly tenant: string;
	readonly view: AgentView;
	readonly isChanged: boolean;
}

export function Trial({ tenant, view, isChanged }: TrialProps): ReactNode {
	const { session } = useSearch({ from: "/t/$tenant/agents/$agent" });
	const navigate = useNavigate({ from: "/t/$tenant/agents/$agent" });
	const published = view.status.published;
	useEffect(() => {
		if (session !== undefined) return;
		void navigate({ search: (old) => ({ ...old, session: `try-${randomKey().slice(0, 10)}` }), replace: true });
	}, [session, navigate]);
	if (!published) return <p className={css.notice}>Nothing can be tried yet: publish the draft first.</p>;
	return (
		<>
			<p className={css.dim}>
				This runs v{published.version}
				{view.status.draft || isChanged ? ", not the draft: publish it to try it." : "."} It is recorded like any invocation, in
				the session {session}.
			</p>
			{session !== undefined && (
				<div className={chat.trial}>
					<AgentTalk tenant={tenant} agent={view.metadata.name} session={session} />
				</div>
			)}
		</>
	);
}
