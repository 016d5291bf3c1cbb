/**
 * A write that needs something filled in, or whose answer is to be read, such as a secret shown once: a dialog that
 * stays until it is closed. One that only asks is an `Act`.
 */
import { Button, Modal } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { useKey } from "../app/keys";
import type { Role } from "../app/session";
import { useBarred } from "./act";
import actCss from "./act.module.css";
import { Command } from "./command";
import css from "./deed.module.css";
import { Trouble } from "./pane";

/** What `run` answers when it is not done: the dialog says why, and stays. */
export const STAY = Symbol("the dialog stays");

interface DeedProps {
	/** What the button says, a verb. */
	readonly label: string;
	/** What the dialog is about, such as `Edit memory`. Default: `label`. */
	readonly title?: string;
	readonly least: Role;
	/** The same by the command line. */
	readonly command?: string;
	/** What is filled in, and what would happen; mounted when the dialog opens. */
	readonly children: ReactNode;
	/** What the button that does it says, such as `Forget 12 memories`. Default: `label`. */
	readonly yes?: string;
	/** Why it cannot be done yet. */
	readonly barred?: string | undefined;
	readonly tone?: "plain" | "primary" | "danger";
	readonly hotkey?: string;
	readonly run: () => Promise<unknown>;
	/** What is shown when it is done, once `run` has said what; a dialog that is not given it closes. */
	readonly done?: ReactNode;
	/** Before the dialog opens: what it starts from. */
	readonly onOpen?: () => void;
	readonly onClose?: () => void;
}

export function Deed({
	label,
	title = label,
	least,
	tone = "plain",
	hotkey,
	onOpen,
	onClose,
	...rest
}: DeedProps): ReactNode {
	const [isOpen, setOpen] = useState(false);
	const why = useBarred(least);
	const open = () => {
		if (why !== undefined) return;
		onOpen?.();
		setOpen(true);
	};
	useKey(hotkey, label, open);
	const close = () => {
		setOpen(false);
		onClose?.();
	};
	return (
		<>
			<Button
				size="compact-sm"
				variant={tone === "primary" ? "filled" : "default"}
				className={tone === "danger" ? actCss.danger : undefined}
				aria-disabled={why !== undefined}
				{...(why === undefined ? {} : { "data-disabled": true })}
				title={why}
				onClick={open}
			>
				{label}
			</Button>
			<Modal opened={isOpen} onClose={close} title={title} size="lg" closeButtonProps={{ "aria-label": "Close" }}>
				{isOpen && (
					<Asked label={label} isDangerous={tone === "danger"} isRead={"done" in rest} {...rest} close={close} />
				)}
			</Modal>
		</>
	);
}

type AskedProps = Pick<DeedProps, "label" | "command" | "children" | "yes" | "barred" | "run" | "done"> & {
	readonly isDangerous: boolean;
	/** Its answer is to be read: it stays open. What is shown comes with the next rendering. */
	readonly isRead: boolean;
	readonly close: () => void;
};

function Asked({ label, command, children, yes, barred, run, done, isDangerous, isRead, close }: AskedProps): ReactNode {
	const deed = useMutation({
		mutationFn: run,
		onSuccess: (answer) => !isRead && answer !== STAY && close(),
	});
	if (deed.isSuccess && deed.data !== STAY && done !== undefined) {
		return (
			<div className={css.asked}>
				<div role="status">{done}</div>
				<div className={css.buttons}>
					<Button onClick={close}>Close</Button>
				</div>
			</div>
		);
	}
	const isOff = barred !== undefined;
	return (
		<form
			className={css.asked}
			onSubmit={(event) => {
				event.preventDefault();
				if (!isOff && !deed.isPending) deed.mutate();
			}}
		>
			{children}
			{deed.isError && <Trouble error={deed.error} retry={() => deed.mutate()} />}
			<div className={css.buttons}>
				{command !== undefined && <Command text={command} />}
				<Button variant="default" onClick={close}>
					Not now
				</Button>
				<Button
					type="submit"
					variant={isDangerous ? "default" : "filled"}
					className={isDangerous ? actCss.danger : undefined}
					loading={deed.isPending}
					disabled={isOff}
					title={barred}
				>
					{yes ?? label}
				</Button>
			</div>
		</form>
	);
}
