/** A talk with a machine through its tunnel: with the model of its own choice, not with an agent. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useEffect, useMemo } from "react";
import { ask, client, randomKey } from "../../api/client";
import { useStore } from "../../app/store";
import { useTopic } from "../../live/live";
import { Trouble } from "../../parts/pane";
import { StateMark } from "../../parts/state";
import { nodeOf } from "../nodes/data";
import css from "./chat.module.css";
import { ProseView } from "./prose-view";
import { Composer, type Item, Said as SaidView, Talk } from "./talk";
import { type Said, Tunnel, type TunnelState } from "./tunnel";

/** Talks of this page: leaving one does not end it. */
const tunnels = new Map<string, Tunnel>();

function tunnelOf(tenant: string, node: string): Tunnel {
	const key = `${tenant}/${node}`;
	const known = tunnels.get(key);
	if (known) return known;
	const made = new Tunnel(node, remembered(key));
	made.said.subscribe(() => remember(key, made.said.get()));
	tunnels.set(key, made);
	return made;
}

function remembered(key: string): readonly Said[] {
	try {
		const held = JSON.parse(sessionStorage.getItem(`mesh.talk.${key}`) ?? "[]") as Said[];
		return held.map((one) => (one.state === "running" ? { ...one, state: "cancelled" as const } : one));
	} catch {
		return [];
	}
}

function remember(key: string, said: readonly Said[]): void {
	try {
		sessionStorage.setItem(`mesh.talk.${key}`, JSON.stringify(said));
	} catch {
		// A browser that keeps nothing forgets the talk on reload.
	}
}

export function NodeTalk({ tenant, node }: { tenant: string; node: string }): ReactNode {
	const tunnel = tunnelOf(tenant, node);
	const said = useStore(tunnel.said);
	const state = useStore(tunnel.state);
	const status = useStatus(tenant, node, state);
	const shown = useMemo(
		() => said.map((one): Item => ({ key: `${one.id}:${one.role}`, isOwn: one.role === "user", view: <Line said={one} node={node} /> })),
		[said, node],
	);
	const isBusy = said.some((one) => one.state === "running");
	const seen = status.data?.node;
	const away = seen !== undefined && seen !== "online" ? `the node is ${seen}` : undefined;
	return (
		<Talk
			label={`Talk with node ${node}`}
			items={shown}
			empty={
				status.isError ? (
					<Trouble error={status.error} retry={() => void status.refetch()} />
				) : (
					<p>
						You talk with the model that this machine chose, through a tunnel to it. Nothing of it is recorded as an
						invocation.
					</p>
				)
			}
		>
			<Composer
				key={node}
				place={`${tenant}/@${node}`}
				label={`Message to node ${node}`}
				least="service"
				barred={isBusy ? "the node is answering" : away}
				extra={<Road tenant={tenant} node={node} state={state} seen={seen} stop={isBusy ? () => tunnel.stop() : undefined} />}
				send={(text) => tunnel.say(`ui-${randomKey()}`, text)}
			/>
		</Talk>
	);
}

/** Whether the node is seen; read again when it comes, goes, or the tunnel changes. */
function useStatus(tenant: string, node: string, state: TunnelState) {
	const status = useQuery({
		queryKey: [tenant, "chat", "tunnel", node],
		queryFn: ({ signal }) =>
			ask(
				client.GET("/api/runtimes/v1/agent-nodes/{node_id}/tunnel/status", { signal, params: { path: { node_id: node } } }),
			),
	});
	const readAgain = () => void status.refetch();
	useTopic("nodes", { push: (push) => nodeOf(push) === node && readAgain(), reset: readAgain });
	// biome-ignore lint/correctness/useExhaustiveDependencies: read again when it was closed.
	useEffect(() => {
		if (state.kind === "closed" && state.why !== undefined) readAgain();
	}, [state]);
	return status;
}

interface RoadProps {
	readonly tenant: string;
	readonly node: string;
	readonly state: TunnelState;
	readonly seen: string | undefined;
	readonly stop: (() => void) | undefined;
}

function Road({ tenant, node, state, seen, stop }: RoadProps): ReactNode {
	return (
		<span className={css.road}>
			<Link to="/t/$tenant/nodes/$node" params={{ tenant, node }}>
				node
			</Link>{" "}
			<span className={css.dim}>
				{seen ?? "unknown"} · tunnel {state.kind}
				{state.kind === "closed" && state.why ? `: ${state.why}` : ""}
			</span>
			{stop && (
				<button type="button" className={css.plain} onClick={stop}>
					Stop
				</button>
			)}
		</span>
	);
}

function Line({ said, node }: { said: Said; node: string }): ReactNode {
	if (said.role === "user") return <SaidView who="you" text={said.text} />;
	return (
		<article className={css.answer} aria-label={`Answer of node ${node}`}>
			<header className={css.head}>
				<strong>node</strong>
				{said.state !== "completed" && said.state !== "sent" && <StateMark state={said.state} />}
				{said.provider === "mock" && <span className={css.dim}>mock</span>}
			</header>
			<div aria-busy={said.state === "running"}>
				<ProseView text={said.text} />
			</div>
			{said.why && <p className={css.failed}>{said.why}</p>}
		</article>
	);
}
