/** How the steps are laid out and which of them are shown: all of it in the URL. */
import { SegmentedControl, TextInput } from "@mantine/core";
import { type ReactNode, useRef } from "react";
import { useKey } from "../../app/keys";
import css from "./invocation.module.css";
import { type DebuggerSearch, GROUPS, type Group } from "./search";

interface ToolbarProps {
	readonly search: DebuggerSearch;
	/** Rows that are shown, of `all` steps. */
	readonly shown: number;
	readonly all: number;
	readonly failures: boolean;
	change(next: (search: DebuggerSearch) => DebuggerSearch): void;
}

export function Toolbar({ search, shown, all, failures, change }: ToolbarProps): ReactNode {
	const field = useRef<HTMLInputElement>(null);
	useKey("/", "find a step", () => field.current?.focus());
	const isFiltered = search.kinds !== undefined || search.find !== undefined;
	const find = (text: string) => change(({ find: _, ...rest }) => (text === "" ? rest : { ...rest, find: text }));
	const toggle = (group: Group) =>
		change(({ kinds, ...rest }) => {
			const before = kinds ?? [];
			const next = before.includes(group) ? before.filter((one) => one !== group) : [...before, group];
			return next.length === 0 || next.length === GROUPS.length ? rest : { ...rest, kinds: next };
		});
	return (
		<div className={css.toolbar}>
			<SegmentedControl
				size="xs"
				aria-label="Scale"
				value={search.scale ?? "order"}
				data={["order", "time"]}
				onChange={(value) => change(({ scale: _, ...rest }) => (value === "time" ? { ...rest, scale: "time" } : rest))}
			/>
			<div role="group" aria-label="Kinds of steps" className={css.kinds}>
				{GROUPS.map((group) => (
					<button key={group} type="button" aria-pressed={search.kinds?.includes(group) ?? false} onClick={() => toggle(group)}>
						{group}
					</button>
				))}
			</div>
			<TextInput
				ref={field}
				size="xs"
				className={css.find}
				aria-label="Find a step"
				placeholder="find /"
				value={search.find ?? ""}
				onChange={(event) => find(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key !== "Escape") return;
					find("");
					field.current?.blur();
				}}
			/>
			<span role="status" className={css.dim}>
				{isFiltered ? `${shown.toLocaleString("en")} of ${all.toLocaleString("en")}` : failures ? "n: next failure" : ""}
			</span>
		</div>
	);
}
