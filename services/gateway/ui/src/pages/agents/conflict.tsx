/** Somebody else saved first: theirs beside mine, and a choice. Nothing is lost by looking. */
import { Button, Modal } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { Time } from "../../app/time";
import { Trouble } from "../../parts/pane";
import css from "./agents.module.css";
import type { AgentView } from "./data";
import { Difference } from "./difference";
import { type Draft, declared } from "./draft";
import { write } from "./form/document";

export function Conflict({ draft, theirs }: { draft: Draft; theirs: AgentView }): ReactNode {
	const [failure, setFailure] = useState<unknown>();
	const [isBusy, setBusy] = useState(false);
	const takeMine = async () => {
		setBusy(true);
		setFailure(undefined);
		try {
			await draft.takeMine();
		} catch (error) {
			setFailure(error);
		}
		setBusy(false);
	};
	return (
		<Modal
			opened
			onClose={draft.decideLater}
			title={`${theirs.metadata.name} was saved by somebody else`}
			size="xl"
			closeButtonProps={{ "aria-label": "Close" }}
		>
			<p>
				Their change {theirs.status.generation} is of <Time at={theirs.status.updated_at} />. Lines with − are theirs, lines
				with + are yours.
			</p>
			<Difference
				label="Theirs against mine"
				before={write(declared(theirs))}
				after={draft.value === undefined ? draft.text : write(draft.value)}
			/>
			{failure !== undefined && <Trouble error={failure} retry={() => void takeMine()} />}
			<div className={css.buttons}>
				<Button variant="default" onClick={draft.decideLater}>
					Back to the editor
				</Button>
				<Button variant="default" onClick={draft.takeTheirs}>
					Take theirs, give up mine
				</Button>
				<Button loading={isBusy} onClick={() => void takeMine()}>
					Save mine over theirs
				</Button>
			</div>
		</Modal>
	);
}
