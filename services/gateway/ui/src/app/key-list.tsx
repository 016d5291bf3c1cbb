/** The keys that work on this page, as `?` shows them. */
import { Modal, Switch } from "@mantine/core";
import type { ReactNode } from "react";
import { isLetter, listed } from "./keys";
import { hasLetters } from "./settings";
import css from "./shell.module.css";
import { useStore } from "./store";

export function KeyList({ close }: { close: () => void }): ReactNode {
	const letters = useStore(hasLetters);
	const commands = useStore(listed);
	const said = new Map(commands.map((command) => [command.keys, command.says]));
	return (
		<Modal opened onClose={close} title="Keys">
			<Switch
				mb="md"
				label="Single letters are commands"
				checked={letters}
				onChange={(event) => hasLetters.set(event.currentTarget.checked)}
			/>
			<dl className={css.keys}>
				{[...said]
					.filter(([keys]) => letters || !isLetter(keys))
					.map(([keys, says]) => (
						<div key={keys}>
							<dt>
								<kbd>{keys.replace("mod+", "Ctrl ").replace("ArrowDown", "↓").replace("ArrowUp", "↑")}</kbd>
							</dt>
							<dd>{says}</dd>
						</div>
					))}
			</dl>
		</Modal>
	);
}
