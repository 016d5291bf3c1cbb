/**
 * A write: offered by role and only while live, its effect said before, "sent" until the event comes, its equal
 * `mesh` command there to copy. Every button that changes something is an `Act`.
 */
import { Button, type ButtonProps } from "@mantine/core";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { Failure } from "../api/problem";
import { useKey } from "../app/keys";
import { covers, type Role, useMay, useMe } from "../app/session";
import css from "./act.module.css";
import { Command } from "./command";
import { Confirm } from "./confirm";

/** Without an event in this time the button is offered again: the act is done, its event was not for us. */
const SENT_MS = 10_000;

export interface ActProps {
	readonly label: string;
	/** Least role that may. */
	readonly least: Role;
	/** The equal command line, such as `mesh cancel inv_…`. */
	readonly command?: string;
	/** Makes the request; may throw a `Failure`. With a confirmation it runs on "yes". */
	run(): Promise<unknown>;
	/**
	 * What it will do, asked before: a sentence, or a question to the server whose answer is the sentence. Its
	 * numbers come from the server. Without it, the act runs at once.
	 */
	readonly confirm?: ReactNode | (() => Promise<ReactNode>);
	/** Label of the dialog's button, which counts: "Cancel 41 invocations". Default: `label`. */
	readonly yes?: string;
	readonly tone?: "plain" | "primary" | "danger";
	/** While this stays as it was when sent, the button says "sent"; the state that the event changes. */
	readonly until?: unknown;
	/** A key for it, such as `p`. */
	readonly hotkey?: string;
	/** Why it cannot be done now, in words: shows and disables. */
	readonly barred?: string | undefined;
	readonly size?: ButtonProps["size"];
	onDone?(): void;
}

export function Act(props: ActProps): ReactNode {
	const { label, least, tone = "plain", barred, until } = props;
	const why = useBarred(least, barred);
	const [phase, setPhase] = useState<"idle" | "asking" | "pending" | "sent">("idle");
	const [failure, setFailure] = useState<unknown>();
	const sentAt = useRef<unknown>(undefined);
	useEffect(() => {
		if (phase !== "sent") return;
		if (!Object.is(sentAt.current, until)) return setPhase("idle");
		const timer = setTimeout(() => setPhase("idle"), SENT_MS);
		return () => clearTimeout(timer);
	}, [phase, until]);
	const go = async () => {
		setPhase("pending");
		setFailure(undefined);
		sentAt.current = until;
		try {
			await props.run();
			setPhase("until" in props ? "sent" : "idle");
			props.onDone?.();
		} catch (error) {
			setFailure(error);
			setPhase("idle");
		}
	};
	const start = () => {
		if (why !== undefined || phase !== "idle") return;
		if (props.confirm === undefined) void go();
		else setPhase("asking");
	};
	useKey(props.hotkey, label, start);
	return (
		<span className={css.act}>
			<Button
				size={props.size ?? "compact-sm"}
				variant={tone === "primary" ? "filled" : "default"}
				className={tone === "danger" ? css.danger : undefined}
				aria-disabled={why !== undefined || phase !== "idle"}
				{...(why === undefined ? {} : { "data-disabled": true })}
				title={why}
				loading={phase === "pending"}
				onClick={start}
			>
				{phase === "sent" ? "sent" : label}
				{props.hotkey && <kbd className={css.key}>{props.hotkey}</kbd>}
			</Button>
			{props.command !== undefined && props.confirm === undefined && <Command text={props.command} isFolded />}
			{failure !== undefined && <Refused failure={failure} forget={() => setFailure(undefined)} />}
			{props.confirm !== undefined && phase === "asking" && (
				<Confirm
					title={label}
					effect={props.confirm}
					yes={props.yes ?? label}
					isDangerous={tone === "danger"}
					{...(props.command === undefined ? {} : { command: props.command })}
					onYes={() => void go()}
					onNo={() => setPhase("idle")}
				/>
			)}
		</span>
	);
}

/** Why a write is not offered: the role, the connection, or what the page says. */
export function useBarred(least: Role, barred?: string): string | undefined {
	const me = useMe();
	const may = useMay(least);
	if (!covers(me.role, least)) return `needs role ${least}; you are ${me.role}`;
	if (!may) return "not connected: writes are off until the page is live again";
	return barred;
}

function Refused({ failure, forget }: { failure: unknown; forget: () => void }): ReactNode {
	const problem = failure instanceof Failure ? failure.problem : undefined;
	return (
		<span role="alert" className={css.refused}>
			{problem?.detail ?? problem?.title ?? String(failure)}
			{problem?.next && ` Next: ${problem.next}`}
			{problem?.request_id && <code> {problem.request_id}</code>}
			<button type="button" onClick={forget} aria-label="Forget this failure">
				×
			</button>
		</span>
	);
}
