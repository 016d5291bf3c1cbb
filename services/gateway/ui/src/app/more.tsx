/** The pages that the bottom bar of a small window has no room for. */
import { Menu } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { sections } from "./sections";
import css from "./shell.module.css";

export function More({ tenant }: { tenant: string }): ReactNode {
	return (
		<Menu position="top-end" withinPortal>
			<Menu.Target>
				<button type="button" className={css.more}>
					More
				</button>
			</Menu.Target>
			<Menu.Dropdown>
				{sections
					.flatMap((group) => [...group.pages])
					.filter((page) => !page.isSmall)
					.map((page) => (
						<Menu.Item key={page.to} renderRoot={(props) => <Link to={page.to} params={{ tenant }} {...props} />}>
							{page.name}
						</Menu.Item>
					))}
			</Menu.Dropdown>
		</Menu>
	);
}
