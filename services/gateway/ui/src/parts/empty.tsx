/** Nothing here: the command that makes the first one, or a way to clear the filters that hide the others. */
import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { Command } from "./command";
import css from "./small.module.css";

interface EmptyProps {
	/** `No agent yet.` */
	readonly says: ReactNode;
	/** What makes the first one. */
	readonly command?: string;
	/** Given when filters are set. */
	readonly clear?: (() => void) | undefined;
	readonly children?: ReactNode;
}

export function Empty({ says, command, clear, children }: EmptyProps): ReactNode {
	return (
		<div className={css.empty}>
			<p>{says}</p>
			{clear && (
				<Button variant="default" size="compact-sm" onClick={clear}>
					Clear the filters
				</Button>
			)}
			{command !== undefined && !clear && <Command text={command} />}
			{children}
		</div>
	);
}
