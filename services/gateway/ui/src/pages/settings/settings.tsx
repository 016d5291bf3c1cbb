/** Who may, who did, and what this mesh is. */
import { Tabs } from "@mantine/core";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { Section } from "../../parts/section";
import { About } from "./about";
import { Audit } from "./audit";
import { Keys } from "./keys";
import { type SettingsSearch, tabs } from "./search";
import { Tokens } from "./tokens";
import { Users } from "./users";

const NAMES: Record<(typeof tabs)[number], string> = {
	users: "Users",
	keys: "Keys",
	tokens: "Join tokens",
	audit: "Audit",
	about: "About",
};

export function Settings(): ReactNode {
	const { tenant } = useParams({ from: "/t/$tenant/settings" });
	const search = useSearch({ from: "/t/$tenant/settings" });
	const navigate = useNavigate({ from: "/t/$tenant/settings" });
	const tab = search.tab ?? "users";
	return (
		<Section title="Settings" level={1}>
			<Tabs
				value={tab}
				onChange={(value) => void navigate({ search: (value === "users" ? {} : { tab: value }) as SettingsSearch })}
				keepMounted={false}
			>
				<Tabs.List>
					{tabs.map((name) => (
						<Tabs.Tab key={name} value={name}>
							{NAMES[name]}
						</Tabs.Tab>
					))}
				</Tabs.List>
				<Tabs.Panel value="users" pt="sm">
					<Users tenant={tenant} />
				</Tabs.Panel>
				<Tabs.Panel value="keys" pt="sm">
					<Keys tenant={tenant} />
				</Tabs.Panel>
				<Tabs.Panel value="tokens" pt="sm">
					<Tokens tenant={tenant} />
				</Tabs.Panel>
				<Tabs.Panel value="audit" pt="sm">
					<Audit tenant={tenant} search={search} />
				</Tabs.Panel>
				<Tabs.Panel value="about" pt="sm">
					<About />
				</Tabs.Panel>
			</Tabs>
		</Section>
	);
}
