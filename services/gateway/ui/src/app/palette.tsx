/** Ctrl/⌘ K: pages, agents, nodes, pasted ids and acts by name. */
import { Modal, TextInput, useMantineColorScheme } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type KeyboardEvent, type ReactNode, useId, useState } from "react";
import { ask, client } from "../api/client";
import { copy } from "../parts/command";
import { idIn, score } from "./ids";
import { sections } from "./sections";
import { hasLetters, isUtc } from "./settings";
import { signOut, useMe } from "./session";
import css from "./shell.module.css";

interface Entry {
	readonly kind: string;
	readonly name: string;
	run(): unknown;
}

const SHOWN_MAX = 12;

interface PaletteProps {
	readonly tenant: string;
	close(): void;
	openKeys(): void;
}

export function Palette({ tenant, close, openKeys }: PaletteProps): ReactNode {
	const [words, setWords] = useState("");
	const [place, setPlace] = useState(0);
	const list = useId();
	const entries = useEntries(tenant, words, openKeys);
	const choose = (entry: Entry | undefined) => {
		if (!entry) return;
		close();
		entry.run();
	};
	const pressed = (event: KeyboardEvent) => {
		const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
		if (step !== 0) {
			event.preventDefault();
			setPlace((place + step + entries.length) % Math.max(1, entries.length));
		} else if (event.key === "Enter") {
			event.preventDefault();
			choose(entries[place]);
		}
	};
	return (
		<Modal opened onClose={close} title="Find" withCloseButton={false} yOffset="10dvh" size="lg">
			<TextInput
				data-autofocus
				aria-label="Page, agent, node, act, or a pasted id"
				placeholder="page, agent, node, act, or a pasted id"
				role="combobox"
				aria-expanded="true"
				aria-controls={list}
				aria-activedescendant={`${list}-${place}`}
				value={words}
				onChange={(event) => {
					setWords(event.currentTarget.value);
					setPlace(0);
				}}
				onKeyDown={pressed}
			/>
			{/* biome-ignore lint/a11y/useFocusableInteractive: the field above has the focus and says which is marked. */}
			<div id={list} role="listbox" aria-label="Found" className={css.found}>
				{entries.map((entry, index) => (
					// biome-ignore lint/a11y/useKeyWithClickEvents: the field above has the keys.
					<div
						key={`${entry.kind} ${entry.name}`}
						id={`${list}-${index}`}
						role="option"
						tabIndex={-1}
						aria-selected={index === place}
						onClick={() => choose(entry)}
						onPointerMove={() => setPlace(index)}
					>
						<span className={css.kind}>{entry.kind}</span> {entry.name}
					</div>
				))}
				{entries.length === 0 && <p className={css.kind}>Nothing has this name.</p>}
			</div>
		</Modal>
	);
}

function useEntries(tenant: string, words: string, openKeys: () => void): Entry[] {
	const navigate = useNavigate();
	const me = useMe();
	const { setColorScheme } = useMantineColorScheme();
	const agents = useQuery({
		queryKey: [tenant, "palette", "agents"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/agents", { signal, params: { query: { limit: 500 } } })),
		staleTime: 0,
	});
	const nodes = useQuery({
		queryKey: [tenant, "palette", "nodes"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/nodes", { signal })),
		staleTime: 0,
	});
	const pasted = idIn(words);
	if (pasted?.kind === "invocation") {
		const { id } = pasted;
		const to = { to: "/t/$tenant/invocations/$id", params: { tenant, id } } as const;
		return [
			{ kind: "invocation", name: id, run: () => navigate(to) },
			{ kind: "copy", name: `mesh invocations show ${id}`, run: () => copy(`mesh invocations show ${id}`) },
		];
	}
	if (pasted?.kind === "dead letter") {
		const run = () => navigate({ to: "/t/$tenant/attention", params: { tenant }, search: { kind: "dead" } });
		return [{ kind: "dead letter", name: pasted.id, run }];
	}
	const all: Entry[] = [
		...sections
			.flatMap((group) => [...group.pages])
			.map((page) => ({ kind: "page", name: page.name, run: () => navigate({ to: page.to, params: { tenant } }) })),
		...(agents.data?.items ?? []).map(({ metadata: { name } }) => ({
			kind: "agent",
			name,
			run: () => navigate({ to: "/t/$tenant/agents/$agent", params: { tenant, agent: name } }),
		})),
		...(nodes.data?.items ?? []).map(({ node_id: id, name }) => ({
			kind: "node",
			name: name && name !== id ? `${name} ${id}` : id,
			run: () => navigate({ to: "/t/$tenant/nodes/$node", params: { tenant, node: id } }),
		})),
		...(agents.data?.items ?? []).map(({ metadata: { name } }) => ({
			kind: "show",
			name: `invocations of ${name}`,
			run: () => navigate({ to: "/t/$tenant/invocations", params: { tenant }, search: { agent: name } }),
		})),
		{ kind: "show", name: "failed invocations", run: () => navigate({ to: "/t/$tenant/invocations", params: { tenant }, search: { state: "failed" } }) },
		{ kind: "act", name: "colours: dark", run: () => setColorScheme("dark") },
		{ kind: "act", name: "colours: light", run: () => setColorScheme("light") },
		{ kind: "act", name: "colours: as the system", run: () => setColorScheme("auto") },
		{ kind: "act", name: isUtc.get() ? "times: local" : "times: UTC", run: () => isUtc.set(!isUtc.get()) },
		{ kind: "act", name: `single letters: ${hasLetters.get() ? "off" : "on"}`, run: () => hasLetters.set(!hasLetters.get()) },
		{ kind: "act", name: "list of keys", run: openKeys },
		...(me.mode === "credentials" ? [{ kind: "act", name: "sign out", run: signOut }] : []),
	];
	return all
		.map((entry) => ({ entry, match: score(`${entry.kind} ${entry.name}`, words) + score(entry.name, words) }))
		.filter(({ match }) => match > 0)
		.sort((left, right) => right.match - left.match)
		.slice(0, SHOWN_MAX)
		.map(({ entry }) => entry);
}
