/** Passwords: one's own with the current one; anybody's made anew by an owner and shown once. */
import { PasswordInput } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { useMe } from "../../app/session";
import { Deed } from "../../parts/deed";
import { api, type User } from "./api";
import { Secret } from "./secret";

/** As the API demands it. */
export const PASSWORD_MIN = 12;
export const PASSWORD_MAX = 256;

/** What is wrong with a password that is typed; nothing while it is empty. */
export function tooShort(password: string): string | undefined {
	if (password === "" || password.length >= PASSWORD_MIN) return undefined;
	return `${password.length} of ${PASSWORD_MIN} characters`;
}

const pathOf = (id: string) => `/api/v1/users/${encodeURIComponent(id)}/password`;

interface Changed {
	readonly password?: string | null;
	readonly sessions_ended: number;
}

/** Of who is signed in; nobody signs in to a mesh in development mode. */
export function OwnPassword(): ReactNode {
	const { user } = useMe();
	return user === null ? null : <Own id={user.id} login={user.login} />;
}

function Own({ id, login }: { id: string; login: string }): ReactNode {
	const [current, setCurrent] = useState("");
	const [password, setPassword] = useState("");
	const [changed, setChanged] = useState<Changed>();
	const barred =
		current === "" ? "say the current password" : password.length < PASSWORD_MIN ? "the new password is too short" : undefined;
	return (
		<Deed
			label="Your password"
			title={`New password of ${login}`}
			least="viewer"
			yes="Change it"
			barred={barred}
			run={async () => setChanged(await api.post<Changed>(pathOf(id), { password, current }))}
			done={changed && <p>It is changed. {sessions(changed.sessions_ended)}</p>}
			onClose={() => {
				setCurrent("");
				setPassword("");
				setChanged(undefined);
			}}
		>
			<PasswordInput
				label="Current password"
				value={current}
				maxLength={PASSWORD_MAX}
				onChange={(event) => setCurrent(event.currentTarget.value)}
				autoComplete="current-password"
				data-autofocus
			/>
			<PasswordInput
				label="New password"
				description={`${PASSWORD_MIN} to ${PASSWORD_MAX} characters; your other sessions end`}
				value={password}
				maxLength={PASSWORD_MAX}
				error={tooShort(password)}
				onChange={(event) => setPassword(event.currentTarget.value)}
				autoComplete="new-password"
			/>
		</Deed>
	);
}

function sessions(ended: number): string {
	if (ended === 0) return "You had no other session.";
	return ended === 1 ? "Your other session ended." : `Your ${ended} other sessions ended.`;
}

/** Of somebody else. */
export function ResetPassword({ user }: { user: User }): ReactNode {
	const [made, setMade] = useState<Changed>();
	return (
		<Deed
			label="Password"
			title={`New password of ${user.login}`}
			least="owner"
			yes="Make a new password"
			command={`mesh users password ${user.login}`}
			run={async () => setMade(await api.post<Changed>(pathOf(user.id), {}))}
			done={
				made?.password ? <Secret what={`The password of ${user.login}`} secret={made.password} /> : <p>It is set.</p>
			}
			onClose={() => setMade(undefined)}
		>
			<p>A password is made and shown here once; the sessions of {user.login} end.</p>
		</Deed>
	);
}
