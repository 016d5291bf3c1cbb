/** People: who may sign in to this tenant, as what, and when they last did. */
import { PasswordInput, Select, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { type Role, useMe } from "../../app/session";
import { Time } from "../../app/time";
import { Act } from "../../parts/act";
import { Deed } from "../../parts/deed";
import { Empty } from "../../parts/empty";
import type { Column } from "../../parts/grid";
import { Section } from "../../parts/section";
import { api, MAY, ROLES, type User } from "./api";
import { ofAction, Paged } from "./paged";
import { OwnPassword, PASSWORD_MAX, PASSWORD_MIN, ResetPassword, tooShort } from "./password";
import { Secret } from "./secret";
import css from "./settings.module.css";

export function Users({ tenant }: { tenant: string }): ReactNode {
	const { mode } = useMe();
	return (
		<Section
			title="Users"
			aside={
				<span className={css.acts}>
					<OwnPassword />
					<CreateUser tenant={tenant} />
				</span>
			}
		>
			{mode === "development" && (
				<p className={css.dim}>
					In development mode nobody signs in, and only this machine is answered. Users are for a mesh that demands
					credentials: <code>MESH_REQUIRE_CREDENTIALS=1</code>.
				</p>
			)}
			<Paged<User>
				tenant={tenant}
				path="users"
				name="users"
				label="Users"
				columns={columns(tenant)}
				id={(user) => user.id}
				isAbout={ofAction("user.")}
				empty={
					<Empty
						says="No user yet. The first one is best an owner:"
						command="mesh users create --login ann --role owner"
					/>
				}
			/>
		</Section>
	);
}

function useReadAgain(tenant: string): () => Promise<void> {
	const queries = useQueryClient();
	return () => queries.invalidateQueries({ queryKey: [tenant, "users"] });
}

const ROLE_CHOICES = ROLES.map((role) => ({ value: role, label: `${role}: ${MAY[role]}` }));

function columns(tenant: string): Column<User>[] {
	return [
		{
			key: "login",
			head: "Login",
			width: "minmax(8rem, 1fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (user) => (
				<>
					<strong>{user.login}</strong> <span className={css.dim}>{user.name}</span>
				</>
			),
		},
		{ key: "role", head: "Role", width: "6rem", narrow: { width: "6rem" }, cell: (user) => user.role },
		{
			key: "state",
			head: "State",
			width: "minmax(6rem, .6fr)",
			cell: (user) => (user.disabled ? "disabled" : "may sign in"),
		},
		{
			key: "seen",
			head: "Last sign-in",
			width: "9rem",
			cell: (user) =>
				user.last_sign_in_at ? <Time at={user.last_sign_in_at} /> : <span className={css.dim}>never signed in</span>,
		},
		{ key: "since", head: "Created", width: "9rem", narrow: "hide", cell: (user) => <Time at={user.created_at} /> },
		{
			key: "acts",
			head: "Acts",
			width: "minmax(15rem, 1.4fr)",
			cell: (user) => <UserActs tenant={tenant} user={user} />,
		},
	];
}

function UserActs({ tenant, user }: { tenant: string; user: User }): ReactNode {
	const readAgain = useReadAgain(tenant);
	const path = `/api/v1/users/${encodeURIComponent(user.id)}`;
	const isMe = useMe().user?.id === user.id;
	return (
		<span className={css.acts}>
			<ChangeRole tenant={tenant} user={user} />
			{!isMe && <ResetPassword user={user} />}
			<Act
				label={user.disabled ? "Enable" : "Disable"}
				yes={`${user.disabled ? "Enable" : "Disable"} ${user.login}`}
				least="owner"
				tone={user.disabled ? "plain" : "danger"}
				command={`mesh users ${user.disabled ? "enable" : "disable"} ${user.login}`}
				confirm={
					user.disabled ? <p>May sign in again.</p> : <p>Signs in no more; open sessions end within ten seconds.</p>
				}
				run={() => api.patch(path, { disabled: !user.disabled })}
				onDone={() => void readAgain()}
			/>
			<Act
				label="Delete"
				yes={`Delete ${user.login}`}
				least="owner"
				tone="danger"
				command={`mesh users delete ${user.login}`}
				confirm={
					<p>
						{user.login} leaves this tenant, with all keys and join tokens that stand for {user.login}. The audit keeps
						what was done.
					</p>
				}
				run={() => api.delete(path)}
				onDone={() => void readAgain()}
			/>
		</span>
	);
}

function ChangeRole({ tenant, user }: { tenant: string; user: User }): ReactNode {
	const readAgain = useReadAgain(tenant);
	const [role, setRole] = useState<Role>(user.role);
	return (
		<Deed
			label="Role"
			title={`Role of ${user.login}`}
			least="owner"
			yes={`Make ${user.login} ${role}`}
			command={`mesh users set-role ${user.login} ${role}`}
			barred={role === user.role ? "it is the role now" : undefined}
			run={async () => {
				await api.patch(`/api/v1/users/${encodeURIComponent(user.id)}`, { role });
				await readAgain();
			}}
		>
			<Select
				label="Role in this tenant"
				data={ROLE_CHOICES}
				value={role}
				onChange={(value) => setRole(ROLES.find((known) => known === value) ?? user.role)}
				allowDeselect={false}
			/>
		</Deed>
	);
}

function CreateUser({ tenant }: { tenant: string }): ReactNode {
	const readAgain = useReadAgain(tenant);
	const [login, setLogin] = useState("");
	const [name, setName] = useState("");
	const [role, setRole] = useState<Role>("viewer");
	const [password, setPassword] = useState("");
	const [made, setMade] = useState<{ user: User; password?: string | null }>();
	const short = tooShort(password);
	return (
		<Deed
			label="Create a user"
			least="owner"
			tone="primary"
			yes="Create"
			command={`mesh users create --login ${login || "LOGIN"} --role ${role}`}
			barred={
				!/^[A-Za-z0-9_-]+$/.test(login)
					? "a login is letters, digits, _ and -"
					: short
						? "the password is too short"
						: undefined
			}
			run={async () => {
				const answer = await api.post("/api/v1/users", { login, name, role, ...(password === "" ? {} : { password }) });
				setMade(answer as { user: User; password?: string | null });
				setPassword("");
				await readAgain();
			}}
			done={
				made &&
				(made.password ? (
					<Secret what={`The password of ${made.user.login}`} secret={made.password} />
				) : (
					<p>{made.user.login} may sign in now.</p>
				))
			}
			onClose={() => {
				setMade(undefined);
				setLogin("");
				setName("");
			}}
		>
			<TextInput
				label="Login"
				description="Letters, digits, _ and -; unique in this installation"
				value={login}
				onChange={(event) => setLogin(event.currentTarget.value)}
				autoComplete="off"
				withAsterisk
			/>
			<TextInput
				label="Name"
				description="For people"
				value={name}
				onChange={(event) => setName(event.currentTarget.value)}
			/>
			<Select
				label="Role in this tenant"
				data={ROLE_CHOICES}
				value={role}
				onChange={(value) => setRole(ROLES.find((known) => known === value) ?? "viewer")}
				allowDeselect={false}
			/>
			<PasswordInput
				label="Password"
				description={`${PASSWORD_MIN} to ${PASSWORD_MAX} characters; empty: one is made and shown once`}
				value={password}
				maxLength={PASSWORD_MAX}
				error={short}
				onChange={(event) => setPassword(event.currentTarget.value)}
				autoComplete="new-password"
			/>
		</Deed>
	);
}
