/** Which tenant the page is of; switching keeps the page. */
import { Menu } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ask, client } from "../api/client";
import { useMe } from "./session";
import css from "./shell.module.css";

export function TenantSwitch({ tenant }: { tenant: string }): ReactNode {
	const me = useMe();
	const navigate = useNavigate();
	const [isOpen, setOpen] = useState(false);
	// Who signed in has a list of their own; in development mode all tenants are there.
	const all = useQuery({
		queryKey: ["tenants"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/tenants", { signal })),
		enabled: isOpen && me.mode === "development",
	});
	const names = new Set([tenant, ...me.tenants.map((one) => one.tenant), ...(all.data?.items.map((one) => one.name) ?? [])]);
	return (
		<Menu opened={isOpen} onChange={setOpen} position="bottom-start" withinPortal>
			<Menu.Target>
				<button type="button" className={css.tenant} aria-label={`Tenant ${tenant}; switch`}>
					<span className={css.wide}>tenant </span>
					<strong>{tenant}</strong> ▾
				</button>
			</Menu.Target>
			<Menu.Dropdown>
				{[...names].sort().map((name) => (
					<Menu.Item
						key={name}
						leftSection={<span className={css.chosen}>{name === tenant ? "✓" : ""}</span>}
						onClick={() => void navigate({ to: ".", params: { tenant: name }, search: true } as never)}
					>
						{name}
					</Menu.Item>
				))}
			</Menu.Dropdown>
		</Menu>
	);
}
