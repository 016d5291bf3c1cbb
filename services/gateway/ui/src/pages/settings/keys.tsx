/** API keys: for programs, each with a role, scopes and an end; its secret is shown once. */
import { Select, TagsInput, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { type Role, useMe } from "../../app/session";
import { Time } from "../../app/time";
import { Act } from "../../parts/act";
import { Deed } from "../../parts/deed";
import { Empty } from "../../parts/empty";
import type { Column } from "../../parts/grid";
import { Section } from "../../parts/section";
import { quoted } from "../memory/score";
import { api, type Key, MAY, ROLES } from "./api";
import { ofAction, Paged } from "./paged";
import { Secret } from "./secret";
import css from "./settings.module.css";

const DAY = 86_400;
const LASTS = [
	{ value: "1", label: "1 day" },
	{ value: "30", label: "30 days" },
	{ value: "90", label: "90 days" },
	{ value: "365", label: "1 year" },
	{ value: "", label: "until it is revoked" },
];

export function Keys({ tenant }: { tenant: string }): ReactNode {
	return (
		<Section title="API keys" aside={<CreateKey tenant={tenant} />}>
			<Paged<Key>
				tenant={tenant}
				path="keys"
				name="keys"
				label="API keys, newest first"
				columns={columns(tenant)}
				id={(key) => key.id}
				isAbout={ofAction("key.")}
				empty={
					<Empty
						says="No key yet. Programs send one as X-Service-API-Key or as a bearer token."
						command="mesh keys create --owner ann --name laptop"
					/>
				}
			/>
		</Section>
	);
}

/** What is the matter with it at `now`, in a word. */
export function standing(of: Pick<Key, "revoked_at" | "expires_at">, now: number): "valid" | "revoked" | "expired" {
	if (of.revoked_at) return "revoked";
	return of.expires_at && Date.parse(of.expires_at) <= now ? "expired" : "valid";
}

function columns(tenant: string): Column<Key>[] {
	return [
		{
			key: "name",
			head: "Key",
			width: "minmax(9rem, 1.2fr)",
			cell: (key) => (
				<>
					<strong>{key.name || "without a name"}</strong> <code className={css.dim}>{key.id}</code>
				</>
			),
		},
		{
			key: "owner",
			head: "Owner",
			width: "minmax(4rem, .6fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (key) => key.owner,
		},
		{
			key: "role",
			head: "Role, scopes",
			width: "minmax(7rem, 1fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (key) => `${key.role ?? "owner"}${key.scopes?.length ? `: ${key.scopes.join(", ")}` : ""}`,
		},
		{ key: "state", head: "State", width: "5rem", narrow: { width: "4rem" }, cell: (key) => standing(key, Date.now()) },
		{
			key: "until",
			head: "Until",
			width: "9rem",
			narrow: "hide",
			cell: (key) => (key.expires_at ? <Time at={key.expires_at} /> : "revoked"),
		},
		{
			key: "used",
			head: "Last used",
			width: "9rem",
			cell: (key) => (key.last_used_at ? <Time at={key.last_used_at} /> : <span className={css.dim}>never used</span>),
		},
		{ key: "acts", head: "Acts", width: "5.5rem", cell: (key) => <Revoke tenant={tenant} of={key} /> },
	];
}

function Revoke({ tenant, of }: { tenant: string; of: Key }): ReactNode {
	const queries = useQueryClient();
	if (of.revoked_at) return null;
	return (
		<Act
			label="Revoke"
			yes="Revoke 1 key"
			least="operator"
			tone="danger"
			command={`mesh keys revoke ${of.id}`}
			confirm={<p>{of.name || of.id} is refused within ten seconds everywhere. It cannot be taken back.</p>}
			run={() => api.post(`/api/v1/keys/${encodeURIComponent(of.id)}/revoke`, {})}
			onDone={() => void queries.invalidateQueries({ queryKey: [tenant, "keys"] })}
		/>
	);
}

function CreateKey({ tenant }: { tenant: string }): ReactNode {
	const queries = useQueryClient();
	const { actor } = useMe();
	const [owner, setOwner] = useState(actor.replace(/^user:/, ""));
	const [name, setName] = useState("");
	const [role, setRole] = useState<Role>("service");
	const [scopes, setScopes] = useState<string[]>([]);
	const [days, setDays] = useState("90");
	const [secret, setSecret] = useState<string>();
	const flags = [
		`--owner ${owner || "OWNER"}`,
		name === "" ? "" : `--name ${quoted(name)}`,
		`--role ${role}`,
		...scopes.map((scope) => `--scope ${quoted(scope)}`),
		days === "" ? "" : `--expires ${days}d`,
	];
	return (
		<Deed
			label="Create a key"
			least="owner"
			tone="primary"
			yes="Create"
			command={`mesh keys create ${flags.filter(Boolean).join(" ")}`}
			barred={/^[A-Za-z0-9_-]+$/.test(owner) ? undefined : "say whom it stands for: letters, digits, _ and -"}
			run={async () => {
				const lasts = days === "" ? {} : { expires_in_seconds: Number(days) * DAY };
				const body = { owner, name, role, ...(scopes.length === 0 ? {} : { scopes }), ...lasts };
				const made = await api.post<{ key: Key; secret: string }>("/api/v1/keys", body);
				setSecret(made.secret);
				await queries.invalidateQueries({ queryKey: [tenant, "keys"] });
			}}
			done={secret && <Secret what="The key" secret={secret} />}
			onClose={() => {
				setSecret(undefined);
				setName("");
			}}
		>
			<TextInput
				label="Owner"
				description="Whom it stands for"
				value={owner}
				onChange={(event) => setOwner(event.currentTarget.value)}
				withAsterisk
			/>
			<TextInput
				label="Name"
				description="Where it is used"
				value={name}
				onChange={(event) => setName(event.currentTarget.value)}
			/>
			<Select
				label="Role"
				data={ROLES.map((known) => ({ value: known, label: `${known}: ${MAY[known]}` }))}
				value={role}
				onChange={(value) => setRole(ROLES.find((known) => known === value) ?? "service")}
				allowDeselect={false}
			/>
			<TagsInput
				label="Scopes"
				description="Empty: all that its role may"
				value={scopes}
				onChange={setScopes}
				clearable
				clearButtonProps={{ "aria-label": "No scopes" }}
			/>
			<Select
				label="Valid for"
				data={LASTS}
				value={days}
				onChange={(value) => setDays(value ?? "")}
				allowDeselect={false}
			/>
		</Deed>
	);
}
