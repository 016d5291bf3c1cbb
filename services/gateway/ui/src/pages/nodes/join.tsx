/** Joining a node: a token where one is asked for, and the command to run on the machine. Its secret is shown once. */
import { NumberInput, Select } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { ask, client } from "../../api/client";
import { useMe } from "../../app/session";
import { Command } from "../../parts/command";
import { Deed } from "../../parts/deed";

const HOUR = 3_600;
const LASTS = [
	{ value: String(HOUR), label: "1 hour" },
	{ value: String(24 * HOUR), label: "1 day" },
	{ value: String(7 * 24 * HOUR), label: "7 days" },
	{ value: String(30 * 24 * HOUR), label: "30 days" },
];

export function joinCommand(origin: string, secret: string | undefined): string {
	return `mesh node --url ${origin}${secret === undefined ? "" : ` --token ${secret}`}`;
}

export function JoinDeed({ tenant, label = "Join a node" }: { tenant: string; label?: string }): ReactNode {
	const { mode } = useMe();
	const queries = useQueryClient();
	const [seconds, setSeconds] = useState(String(24 * HOUR));
	const [uses, setUses] = useState<number | string>(1);
	const [secret, setSecret] = useState<string>();
	const create = async () => {
		const body = { expires_in_seconds: Number(seconds), ...(typeof uses === "number" ? { uses_max: uses } : {}) };
		const made = await ask(client.POST("/api/v1/join-tokens", { body }));
		setSecret(made.secret);
		await queries.invalidateQueries({ queryKey: [tenant, "join-tokens"] });
	};
	return (
		<Deed
			label={label}
			title="Join a node"
			least="operator"
			tone="primary"
			yes="Make a token"
			command={`mesh tokens create --expires ${Number(seconds) / HOUR}h${typeof uses === "number" ? ` --uses ${uses}` : ""}`}
			onClose={() => setSecret(undefined)}
			run={create}
			done={
				<>
					<p>
						The token is shown this once. On the machine, run this; it appears in the list of nodes as soon as it has
						joined.
					</p>
					<Command text={joinCommand(location.origin, secret)} />
				</>
			}
		>
			{mode === "development" && (
				<div>
					In development mode no token is needed. On this machine run:
					<Command text={joinCommand(location.origin, undefined)} />
				</div>
			)}
			<p>A machine joins with a token; once it has joined, it has a secret of its own.</p>
			<Select
				label="The token lasts"
				data={LASTS}
				value={seconds}
				onChange={(value) => value && setSeconds(value)}
				allowDeselect={false}
			/>
			<NumberInput
				label="Nodes that may join with it"
				description="Empty: any number while it lasts"
				min={1}
				value={uses}
				onChange={setUses}
			/>
		</Deed>
	);
}
