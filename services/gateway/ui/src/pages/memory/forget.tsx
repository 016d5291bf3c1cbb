/** Forgetting for good: one, or all that match, counted by the server before and proved by a receipt after. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import { withDefaults } from "../../api/defaults";
import { Time } from "../../app/time";
import { Act } from "../../parts/act";
import { Copy } from "../../parts/command";
import { Deed } from "../../parts/deed";
import { Pane } from "../../parts/pane";
import { Facts } from "../../parts/section";
import { counted } from "../nodes/state";
import { type ForgetFilter, forgetCommand, forgetFilter, type Memory } from "./score";
import type { MemorySearch } from "./search";

type Receipt = Schema["Receipt"];

function forget(request: { filter: ForgetFilter; dry_run?: boolean }): Promise<Receipt> {
	return ask(client.POST("/api/v1/memories/forget", { body: withDefaults<Schema["ForgetRequest"]>(request) }));
}

export function ForgetOne({ tenant, memory }: { tenant: string; memory: Memory }): ReactNode {
	const queries = useQueryClient();
	const navigate = useNavigate({ from: "/t/$tenant/memory" });
	return (
		<Act
			label="Forget"
			yes="Forget 1 memory"
			least="operator"
			tone="danger"
			command={`mesh memories forget ${memory.id}`}
			confirm={async () => {
				const { forgotten, derived } = await forget({ filter: { ids: [memory.id] }, dry_run: true });
				return (
					<p>
						It is erased with its history; nothing brings it back.
						{derived > 0 && ` ${counted(derived, "memory", "memories")} made of it would go too, ${forgotten} in all.`}
					</p>
				);
			}}
			run={() => ask(client.DELETE("/api/v1/memories/{id}", { params: { path: { id: memory.id } } }))}
			onDone={() => {
				// Not the open one, which is gone: to read it again would fail.
				for (const part of ["list", "hits"]) void queries.invalidateQueries({ queryKey: [tenant, "memories", part] });
				void navigate({ search: ({ memory: _, ...rest }) => rest, resetScroll: false });
			}}
		/>
	);
}

export function ForgetByFilter({ tenant, search }: { tenant: string; search: MemorySearch }): ReactNode {
	const filter = forgetFilter(search);
	const queries = useQueryClient();
	const [count, setCount] = useState<number>();
	const [receipt, setReceipt] = useState<Receipt>();
	if (filter === undefined) return null;
	const run = async () => {
		setReceipt(await forget({ filter }));
		await queries.invalidateQueries({ queryKey: [tenant, "memories"] });
	};
	return (
		<Deed
			label="Forget all that match"
			least="operator"
			tone="danger"
			yes={count === undefined ? "Forget" : `Forget ${counted(count, "memory", "memories")}`}
			barred={count === undefined ? "it is being counted" : count === 0 ? "nothing matches" : undefined}
			command={forgetCommand(search)}
			run={run}
			done={receipt && <Proof receipt={receipt} />}
			onClose={() => {
				setCount(undefined);
				setReceipt(undefined);
			}}
		>
			<Counted tenant={tenant} filter={filter} count={setCount} />
		</Deed>
	);
}

function Counted({
	tenant,
	filter,
	count,
}: {
	tenant: string;
	filter: ForgetFilter;
	count: (forgotten: number) => void;
}): ReactNode {
	const dry = useQuery({
		queryKey: [tenant, "forget", filter],
		queryFn: async () => {
			const would = await forget({ filter, dry_run: true });
			count(would.forgotten);
			return would;
		},
		gcTime: 0,
		staleTime: 0,
	});
	const said = Object.entries(filter).map(
		([name, value]) => `${name} ${Array.isArray(value) ? value.join(", ") : value}`,
	);
	return (
		<>
			<p>Of {said.join(", ")}:</p>
			<Pane query={dry} rows={1}>
				{({ forgotten, derived }) => (
					<p>
						{counted(forgotten, "memory", "memories")} would be erased with their history
						{derived > 0 && `, ${derived} of them because they were made of others`}. Nothing brings them back. The
						question of the search does not count: only the filters do.
					</p>
				)}
			</Pane>
		</>
	);
}

function Proof({ receipt }: { receipt: Receipt }): ReactNode {
	return (
		<>
			<p>
				{counted(receipt.forgotten, "memory", "memories")} forgotten. The receipt proves it and holds nothing of them:
			</p>
			<Facts
				of={[
					["Receipt", <code key="id">{receipt.id}</code>],
					["Of ids with SHA-256", <code key="sha">{receipt.ids_sha256}</code>],
					["Made of others", receipt.derived],
					["By", receipt.by],
					["At", <Time key="at" at={receipt.at} />],
				]}
			/>
			<Copy text={JSON.stringify(receipt, null, 2)} what="the receipt" says="copy the receipt" />
		</>
	);
}
