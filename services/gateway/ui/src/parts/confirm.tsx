/** Effect before act: a dialog that says what will happen, counted by the server, and the equal command. */
import { Button, Modal, Skeleton } from "@mantine/core";
import { type ReactNode, useEffect, useState } from "react";
import css from "./act.module.css";
import { Command } from "./command";
import { Trouble } from "./pane";

export interface ConfirmProps {
	readonly title: string;
	/** The sentence, or the question to the server whose answer it is. */
	readonly effect: ReactNode | (() => Promise<ReactNode>);
	readonly yes: string;
	readonly isDangerous?: boolean;
	readonly command?: string;
	/** Something to fill in first keeps "yes" off. */
	readonly barred?: string;
	onYes(): void;
	onNo(): void;
}

export function Confirm(props: ConfirmProps): ReactNode {
	const [effect, setEffect] = useState<ReactNode>();
	const [error, setError] = useState<unknown>();
	const [round, setRound] = useState(0);
	const asked = typeof props.effect === "function";
	// biome-ignore lint/correctness/useExhaustiveDependencies: asked once an opening, and by "Try again".
	useEffect(() => {
		if (typeof props.effect !== "function") return;
		let isOpen = true;
		props.effect().then(
			(said) => isOpen && setEffect(said),
			(failure: unknown) => isOpen && setError(failure),
		);
		return () => {
			isOpen = false;
		};
	}, [round]);
	const isReady = !asked || effect !== undefined;
	return (
		<Modal
			opened
			onClose={props.onNo}
			title={props.title}
			centered
			closeButtonProps={{ "aria-label": "Close" }}
		>
			{error !== undefined ? (
				<Trouble
					error={error}
					retry={() => {
						setError(undefined);
						setRound(round + 1);
					}}
				/>
			) : isReady ? (
				<div>{asked ? effect : (props.effect as ReactNode)}</div>
			) : (
				<Skeleton height={20} my={8} />
			)}
			<div className={css.foot}>
				{props.command !== undefined && <Command text={props.command} />}
				<Button variant="default" size="compact-md" onClick={props.onNo}>
					Not now
				</Button>
				<Button
					size="compact-md"
					variant={props.isDangerous ? "default" : "filled"}
					className={props.isDangerous ? css.danger : undefined}
					disabled={!isReady || props.barred !== undefined}
					title={props.barred}
					data-autofocus
					onClick={props.onYes}
				>
					{props.yes}
				</Button>
			</div>
		</Modal>
	);
}
