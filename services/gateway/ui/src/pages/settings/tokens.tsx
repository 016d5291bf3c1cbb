/** Tokens that nodes join with. */
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { Schema } from "../../api/client";
import { Time } from "../../app/time";
import { Act } from "../../parts/act";
import { Empty } from "../../parts/empty";
import type { Column } from "../../parts/grid";
import { Section } from "../../parts/section";
import { JoinDeed } from "../nodes/join";
import { api } from "./api";
import { standing } from "./keys";
import { ofAction, Paged } from "./paged";
import css from "./settings.module.css";

type JoinToken = Schema["JoinTokenView"];

export function Tokens({ tenant }: { tenant: string }): ReactNode {
	return (
		<Section title="Join tokens" aside={<JoinDeed tenant={tenant} label="Make a token" />}>
			<Paged<JoinToken>
				tenant={tenant}
				path="join-tokens"
				name="join-tokens"
				label="Join tokens, newest first"
				columns={columns(tenant)}
				id={(token) => token.id}
				isAbout={(push) => ofAction("join-token.")(push) || ofAction("node.enroll")(push)}
				empty={<Empty says="No token yet. A machine joins as a node with one:" command="mesh tokens create --uses 1" />}
			/>
		</Section>
	);
}

function columns(tenant: string): Column<JoinToken>[] {
	return [
		{ key: "id", head: "Token", width: "minmax(10rem, 1.4fr)", cell: (token) => <code>{token.id}</code> },
		{
			key: "owner",
			head: "Owner",
			width: "minmax(5rem, 1fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (token) => token.owner,
		},
		{
			key: "state",
			head: "State",
			width: "6rem",
			narrow: { width: "5rem" },
			cell: (token) =>
				token.uses_max != null && token.uses >= token.uses_max && !token.revoked_at
					? "used up"
					: standing({ revoked_at: token.revoked_at ?? null, expires_at: token.expires_at }, Date.now()),
		},
		{
			key: "uses",
			head: "Used",
			width: "7rem",
			narrow: { width: "5rem" },
			cell: (token) => `${token.uses} of ${token.uses_max ?? "any number"}`,
		},
		{
			key: "node",
			head: "For node",
			width: "minmax(6rem, 1fr)",
			narrow: "hide",
			cell: (token) =>
				token.node_id ? (
					<Link to="/t/$tenant/nodes/$node" params={{ tenant, node: token.node_id }}>
						{token.node_id}
					</Link>
				) : (
					<span className={css.dim}>any</span>
				),
		},
		{ key: "until", head: "Until", width: "9rem", cell: (token) => <Time at={token.expires_at} /> },
		{ key: "acts", head: "Acts", width: "5.5rem", cell: (token) => <Revoke tenant={tenant} token={token} /> },
	];
}

function Revoke({ tenant, token }: { tenant: string; token: JoinToken }): ReactNode {
	const queries = useQueryClient();
	if (token.revoked_at) return null;
	return (
		<Act
			label="Revoke"
			yes="Revoke 1 token"
			least="operator"
			tone="danger"
			command={`mesh tokens revoke ${token.id}`}
			confirm={<p>Nobody joins with it any more. The {token.uses} that did stay.</p>}
			run={() => api.post(`/api/v1/join-tokens/${encodeURIComponent(token.id)}/revoke`, {})}
			onDone={() => void queries.invalidateQueries({ queryKey: [tenant, "join-tokens"] })}
		/>
	);
}
