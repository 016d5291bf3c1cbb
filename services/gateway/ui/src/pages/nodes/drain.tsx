/** Draining a node, its effect first: the next pass as the server would make it with this node drained. */
import { useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { Act } from "../../parts/act";
import css from "./nodes.module.css";
import { Sentences } from "./sentences";
import { counted, type NodeRecord, type Pass } from "./state";

export function DrainAct({ tenant, node, hotkey }: { tenant: string; node: NodeRecord; hotkey?: string }): ReactNode {
	const queries = useQueryClient();
	const set = async (drained: boolean) => {
		const path = { node: node.node_id };
		const record = await ask(client.POST("/api/v1/nodes/{node}/drain", { params: { path }, body: { drained } }));
		queries.setQueryData([tenant, "nodes", "one", node.node_id], record);
		await queries.invalidateQueries({ queryKey: [tenant, "nodes", "list"] });
	};
	if (node.drained) {
		return (
			<Act
				label="Undrain"
				least="operator"
				command={`mesh node undrain ${node.node_id}`}
				confirm={<p>Passes may place replicas on {node.name} again. Nothing moves back by itself.</p>}
				run={() => set(false)}
			/>
		);
	}
	return (
		<Act
			label="Drain"
			yes={`Drain ${node.name}`}
			least="operator"
			command={`mesh node drain ${node.node_id}`}
			{...(hotkey === undefined ? {} : { hotkey })}
			confirm={async () => {
				const pass = await ask(client.POST("/api/v1/plan", { body: { drain: node.node_id } }));
				return <Effect pass={pass} node={node} />;
			}}
			run={() => set(true)}
		/>
	);
}

/** Counted by the server's own next pass. */
function Effect({ pass, node }: { pass: Pass; node: NodeRecord }): ReactNode {
	const moves = pass.actions.filter((action) => action.kind === "place" && action.from === node.node_id);
	const stays = node.replicas.length - moves.length;
	return (
		<>
			<p>
				{node.replicas.length === 0
					? `Nothing runs on ${node.name}; nothing would be placed there any more.`
					: `${counted(moves.length, "replica")} would move from ${node.name}, and nothing would be placed there.`}
				{stays > 0 && ` ${counted(stays, "replica")} would not move in the next pass.`}
			</p>
			<Sentences actions={pass.actions} nothing="The next pass would do nothing." />
			<p className={css.dim}>Open invocations end where they run, or are taken over by another node.</p>
		</>
	);
}

export function ForgetAct({
	tenant,
	node,
	onDone,
}: {
	tenant: string;
	node: NodeRecord;
	onDone: () => void;
}): ReactNode {
	const queries = useQueryClient();
	return (
		<Act
			label="Forget"
			yes={`Forget ${node.name}`}
			least="operator"
			tone="danger"
			command={`mesh nodes forget ${node.node_id}`}
			confirm={
				<p>
					Its id is free again and its secret is refused. {counted(node.replicas.length, "replica")} that it runs would
					be placed elsewhere; it has to join anew to come back.
				</p>
			}
			run={async () => {
				await ask(client.DELETE("/api/v1/nodes/{node}", { params: { path: { node: node.node_id } } }));
				await queries.invalidateQueries({ queryKey: [tenant, "nodes", "list"] });
			}}
			onDone={onDone}
		/>
	);
}
