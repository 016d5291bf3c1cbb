/** Signing in: by password or a provider, back to the link that was asked for; a lockout is counted down. */
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import { type ReactNode, useEffect, useState } from "react";
import { Failure } from "../../api/problem";
import { type Methods, methods, safeReturn, session, signIn } from "../../app/session";
import { useStore } from "../../app/store";
import { Command } from "../../parts/command";
import { Pane } from "../../parts/pane";
import { useCountdown } from "./countdown";
import css from "./sign-in.module.css";

export function SignIn(): ReactNode {
	const { return_to, error, expired } = useSearch({ from: "/sign-in" });
	// Also asked without a network: nothing else of this page says that there is none.
	const told = useQuery({ queryKey: ["auth", "methods"], queryFn: methods, networkMode: "always" });
	const to = safeReturn(return_to);
	const { history } = useRouter();
	// Whoever is signed in already has nothing to do here.
	const isHere = useStore(session, (now) => now.kind === "here" && now.me.mode === "credentials");
	useEffect(() => {
		if (isHere) history.replace(to);
	}, [isHere, history, to]);
	return (
		<main className={css.page}>
			<div className={css.box}>
				<h1 className={css.title}>Agent Mesh</h1>
				<Notice error={error} isExpired={expired === true} to={to} />
				<Pane query={told} rows={3}>
					{(how) => (how.mode === "development" ? <Development to={to} /> : <Ways how={how} to={to} />)}
				</Pane>
			</div>
		</main>
	);
}

/** Why one is here, when it was not asked for. */
function Notice({ error, isExpired, to }: { error: string | undefined; isExpired: boolean; to: string }): ReactNode {
	const why = useStore(session, (now) => (now.kind === "signed out" ? now.why : undefined));
	if (error !== undefined) {
		return (
			<p role="alert" className={css.trouble}>
				The provider's sign-in failed: {PROVIDER_FAILURES[error] ?? error}
			</p>
		);
	}
	if (isExpired || why === "expired") {
		return (
			<p role="status" className={css.notice}>
				Your sign-in has expired. Sign in again and you are back at <code>{to}</code>.
			</p>
		);
	}
	if (why === "left") {
		return (
			<p role="status" className={css.notice}>
				You are signed out.
			</p>
		);
	}
	return null;
}

const PROVIDER_FAILURES: Record<string, string> = {
	access_denied: "it was refused there. Try again, or another way.",
	"identity/unauthorized": "nobody here is known by that account. An owner of the tenant adds you.",
	"identity/too-many-attempts": "there were too many attempts. Wait a moment.",
};

function Development({ to }: { to: string }): ReactNode {
	return (
		<>
			<p>
				This mesh runs in development mode: nobody signs in, and only this machine is answered. To demand credentials,
				start it so:
			</p>
			<Command text="MESH_REQUIRE_CREDENTIALS=1 mesh up" />
			<Button component="a" href={to} fullWidth mt="md">
				Go on
			</Button>
		</>
	);
}

function Ways({ how, to }: { how: Methods; to: string }): ReactNode {
	return (
		<>
			{how.password && <ByPassword />}
			{how.password && how.providers.length > 0 && <p className={css.or}>or</p>}
			{how.providers.map((provider) => (
				<Button
					key={provider.id}
					component="a"
					variant="default"
					fullWidth
					mt="sm"
					href={`/api/v1/auth/providers/${encodeURIComponent(provider.id)}/start?${new URLSearchParams({ return_to: to })}`}
				>
					Sign in with {provider.name}
				</Button>
			))}
			{!how.password && how.providers.length === 0 && (
				<p>No way to sign in is configured. An owner's API key works on the command line: MESH_API_KEY.</p>
			)}
			<p className={css.dim}>
				No account? An owner of your tenant makes one: <code>mesh users create --login ann --role viewer</code>
			</p>
		</>
	);
}

function ByPassword(): ReactNode {
	const [login, setLogin] = useState("");
	const [password, setPassword] = useState("");
	const [lockedUntil, setLockedUntil] = useState<number>();
	const left = useCountdown(lockedUntil);
	const attempt = useMutation({
		mutationFn: () => signIn(login.trim(), password),
		onError: (error) => {
			setPassword("");
			const wait =
				error instanceof Failure && error.problem.status === 429 ? (error.problem.retry_after_s ?? 30) : undefined;
			setLockedUntil(wait === undefined ? undefined : Date.now() + wait * 1_000);
		},
	});
	const isLocked = left > 0;
	// After a lockout the old answer says nothing any more.
	const isOld = lockedUntil !== undefined && !isLocked;
	useEffect(() => {
		if (isOld) setLockedUntil(undefined);
	}, [isOld]);
	return (
		<form
			className={css.form}
			onSubmit={(event) => {
				event.preventDefault();
				if (!isLocked && !attempt.isPending) attempt.mutate();
			}}
		>
			<TextInput
				label="Login"
				name="login"
				autoComplete="username"
				autoCapitalize="none"
				spellCheck={false}
				value={login}
				onChange={(event) => setLogin(event.currentTarget.value)}
				required
				autoFocus
			/>
			<PasswordInput
				label="Password"
				name="password"
				autoComplete="current-password"
				value={password}
				onChange={(event) => setPassword(event.currentTarget.value)}
				visibilityToggleButtonProps={{ "aria-label": "Show or hide the password" }}
				required
			/>
			<Said error={attempt.error} left={left} />
			<Button type="submit" fullWidth loading={attempt.isPending} disabled={isLocked}>
				{isLocked ? `Try again in ${left} s` : "Sign in"}
			</Button>
		</form>
	);
}

/** A wrong login and a wrong password are the same answer; so they are the same words. */
function Said({ error, left }: { error: unknown; left: number }): ReactNode {
	if (left > 0) {
		return (
			<p role="alert" className={css.trouble}>
				Too many attempts. This account is locked for a short while. {/* Said once when it begins, not each second. */}
				<strong aria-hidden="true">{left} s left.</strong>
			</p>
		);
	}
	if (!(error instanceof Failure) || error.problem.status === 429) return null;
	const { status, title, detail, next, request_id } = error.problem;
	return (
		<div role="alert" className={css.trouble}>
			{status === 401 ? "Login and password do not fit together." : (detail ?? title)}
			{status !== 401 && next && ` Next: ${next}`}
			{status !== 401 && request_id && <code> {request_id}</code>}
		</div>
	);
}
