/** A command line that does the same, to copy. */
import { ActionIcon, Popover } from "@mantine/core";
import { type ReactNode, useState } from "react";
import css from "./act.module.css";

/** Copies text; the Clipboard API is missing where the page came by plain HTTP from another machine. */
export async function copy(text: string): Promise<boolean> {
	try {
		await navigator.clipboard.writeText(text);
		return true;
	} catch {
		const area = document.createElement("textarea");
		area.value = text;
		area.className = "visually-hidden";
		document.body.append(area);
		area.select();
		const done = document.execCommand("copy");
		area.remove();
		return done;
	}
}

export function Copy({ text, what, says = "copy" }: { text: string; what: string; says?: string }): ReactNode {
	const [done, setDone] = useState<"" | "copied" | "cannot copy">("");
	return (
		<ActionIcon
			variant="subtle"
			w="auto"
			px="xs"
			size="sm"
			aria-label={says === "copy" ? `Copy ${what}` : `${says}: copies ${what}`}
			onClick={() => void copy(text).then((isDone) => setDone(isDone ? "copied" : "cannot copy"))}
			onBlur={() => setDone("")}
		>
			<span role="status">{done || says}</span>
		</ActionIcon>
	);
}

export function Command({ text, isFolded = false }: { text: string; isFolded?: boolean }): ReactNode {
	const shown = (
		<span className={css.command}>
			<code>{text}</code>
			<Copy text={text} what="the command" />
		</span>
	);
	if (!isFolded) return shown;
	return (
		<Popover position="bottom-end" withArrow trapFocus>
			<Popover.Target>
				<ActionIcon variant="subtle" size="sm" w="auto" px="xs" aria-label={`As a command: ${text}`}>
					&gt;_
				</ActionIcon>
			</Popover.Target>
			<Popover.Dropdown>{shown}</Popover.Dropdown>
		</Popover>
	);
}
