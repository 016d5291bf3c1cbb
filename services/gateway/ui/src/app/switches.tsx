/** Switches of the header: time, colours, keys; signing out. */
import { ActionIcon, Menu, useMantineColorScheme } from "@mantine/core";
import type { ReactNode } from "react";
import { session, signOut, useMe } from "./session";
import { hasLetters, isComfortable } from "./settings";
import css from "./shell.module.css";
import { useStore } from "./store";
import { useClock } from "./time";

export function Switches({ openPalette, openKeys }: { openPalette: () => void; openKeys: () => void }): ReactNode {
	const me = useMe();
	const isHere = useStore(session, (now) => now.kind === "here");
	const { isUtc, toggle } = useClock();
	const { colorScheme, setColorScheme } = useMantineColorScheme();
	const letters = useStore(hasLetters);
	const comfortable = useStore(isComfortable);
	return (
		<span className={css.switches}>
			<ActionIcon variant="default" w="auto" px="sm" className={css.wide} onClick={openPalette}>
				Find <kbd>Ctrl K</kbd>
			</ActionIcon>
			<ActionIcon variant="default" w="auto" px="xs" onClick={toggle} aria-label={`Times are ${isUtc ? "UTC" : "local"}; switch`}>
				{isUtc ? "UTC" : "local"}
			</ActionIcon>
			<Menu position="bottom-end" withinPortal>
				<Menu.Target>
					<ActionIcon variant="default" w="auto" px="xs" aria-label={`Menu of ${me.actor || "this page"}`}>
						<span className={css.actor}>{me.user?.login ?? (me.actor || "…")}</span>
					</ActionIcon>
				</Menu.Target>
				<Menu.Dropdown>
					<Menu.Label>{isHere ? `${me.user?.name ?? me.actor} · ${me.role}` : "not connected"}</Menu.Label>
					<Menu.Label>Colours</Menu.Label>
					{(["auto", "light", "dark"] as const).map((scheme) => (
						<Menu.Item
							key={scheme}
							onClick={() => setColorScheme(scheme)}
							leftSection={<Chosen is={colorScheme === scheme} />}
							aria-current={colorScheme === scheme ? "true" : undefined}
						>
							{scheme === "auto" ? "as the system" : scheme}
						</Menu.Item>
					))}
					<Menu.Divider />
					<Menu.Item onClick={() => isComfortable.set(!comfortable)} leftSection={<Chosen is={comfortable} />}>
						roomy rows
					</Menu.Item>
					<Menu.Item onClick={() => hasLetters.set(!letters)} leftSection={<Chosen is={letters} />}>
						single letters are commands
					</Menu.Item>
					<Menu.Item onClick={openPalette} leftSection={<Chosen is={false} />}>
						find a page, agent or node
					</Menu.Item>
					<Menu.Item onClick={openKeys} leftSection={<Chosen is={false} />}>
						keys
					</Menu.Item>
					{me.mode === "credentials" && isHere && (
						<>
							<Menu.Divider />
							<Menu.Item onClick={() => void signOut()} leftSection={<Chosen is={false} />}>
								sign out
							</Menu.Item>
						</>
					)}
				</Menu.Dropdown>
			</Menu>
		</span>
	);
}

function Chosen({ is }: { is: boolean }): ReactNode {
	return <span className={css.chosen}>{is ? "✓" : ""}</span>;
}
