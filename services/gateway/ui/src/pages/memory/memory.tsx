/** What agents remember and why that comes up: memories and documents, searched with what their score is made of. */
import { Tabs } from "@mantine/core";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { Section } from "../../parts/section";
import { Embedding } from "./embedding";
import { Knowledge } from "./knowledge";
import { Memories } from "./memories";
import type { MemorySearch } from "./search";

export function MemoryPage(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/memory" });
	const search = useSearch({ from: "/t/$tenant/memory" });
	const navigate = useNavigate({ from: "/t/$tenant/memory" });
	const tab = search.tab ?? "memories";
	return (
		<Section title="Memory" level={1} aside={<Embedding tenant={tenant} />}>
			<Tabs
				value={tab}
				onChange={(value) => void navigate({ search: (value === "memories" ? {} : { tab: value }) as MemorySearch })}
				keepMounted={false}
			>
				<Tabs.List>
					<Tabs.Tab value="memories">Memories</Tabs.Tab>
					<Tabs.Tab value="knowledge">Knowledge</Tabs.Tab>
				</Tabs.List>
				<Tabs.Panel value="memories" pt="sm">
					<Memories tenant={tenant} search={search} />
				</Tabs.Panel>
				<Tabs.Panel value="knowledge" pt="sm">
					<Knowledge tenant={tenant} search={search} />
				</Tabs.Panel>
			</Tabs>
		</Section>
	);
}
