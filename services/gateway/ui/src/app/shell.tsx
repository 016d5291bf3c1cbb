/** What is around every page: navigation, tenant, connection, clock, colours; the gate for who is not signed in. */
import { Badge, Skeleton } from "@mantine/core";
import { Link, Navigate, Outlet, useLocation, useNavigate, useParams } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense, useEffect, useState } from "react";
import { useAttentionCount } from "../pages/attention/count";
import { Boundary, Trouble } from "../parts/pane";
import { ConnectionMark } from "./connection-mark";
import { useKey } from "./keys";
import { later } from "./later";
import { More } from "./more";
import { sections } from "./sections";
import { begin, enter, session, useMe } from "./session";
import { hasLetters, isComfortable } from "./settings";
import css from "./shell.module.css";
import { useStore } from "./store";
import { Switches } from "./switches";
import { TenantSwitch } from "./tenant-switch";

const Palette = lazy(later(() => import("./palette").then((module) => ({ default: module.Palette }))));
const KeyList = lazy(later(() => import("./key-list").then((module) => ({ default: module.KeyList }))));

export function Shell(): ReactNode {
	const now = useStore(session);
	const { href, pathname } = useLocation();
	const { tenant } = useParams({ from: "/t/$tenant" });
	useEffect(() => void enter(tenant), [tenant]);
	if (now.kind === "signed out") {
		// On its way already: this page stays until the other one is loaded.
		if (pathname === "/sign-in") return null;
		const why = now.why === "expired" ? { expired: true } : {};
		return <Navigate to="/sign-in" search={{ return_to: href, ...why } as never} replace />;
	}
	return (
		<Frame tenant={tenant}>
			{now.kind === "here" ? (
				<Boundary key={href.split("?")[0] ?? ""}>
					<Outlet />
				</Boundary>
			) : now.kind === "unreachable" ? (
				<Trouble error={now.failure} retry={() => void begin()} />
			) : (
				<Skeleton height={240} />
			)}
		</Frame>
	);
}

function Frame({ tenant, children }: { tenant: string; children: ReactNode }): ReactNode {
	const [over, setOver] = useState<"palette" | "keys">();
	const comfortable = useStore(isComfortable);
	useKey("mod+k", "find a page, agent, node or act", () => setOver("palette"), true);
	useKey("?", "this list of keys", () => setOver("keys"));
	useGoKeys(tenant);
	const close = () => setOver(undefined);
	return (
		<>
			<a className={css.skip} href="#page">
				Skip to the page
			</a>
			<div className={css.frame} data-comfortable={comfortable || undefined}>
				<header className={css.header}>
					<Link to="/t/$tenant" params={{ tenant }} className={css.brand}>
						<span className={css.wide}>Agent </span>Mesh
					</Link>
					<TenantSwitch tenant={tenant} />
					<span className={css.right}>
						<ConnectionMark />
						<Switches openPalette={() => setOver("palette")} openKeys={() => setOver("keys")} />
					</span>
				</header>
				<Navigation tenant={tenant} />
				<main id="page" className={css.page} tabIndex={-1}>
					<DevelopmentStrip />
					{/* Both lie over the page; where one cannot be loaded, that is said at its top. */}
					<Boundary key={over}>
						<Suspense>
							{over === "palette" && <Palette tenant={tenant} close={close} openKeys={() => setOver("keys")} />}
							{over === "keys" && <KeyList close={close} />}
						</Suspense>
					</Boundary>
					{children}
				</main>
			</div>
		</>
	);
}

function DevelopmentStrip(): ReactNode {
	if (useMe().mode !== "development") return null;
	return (
		<p className={css.strip} role="note">
			Development mode: nobody signs in, and only this machine is answered.
		</p>
	);
}

/** `g` and a letter go to a page, from anywhere. */
function useGoKeys(tenant: string): void {
	const navigate = useNavigate();
	const letters = useStore(hasLetters);
	const go = (place: number) => {
		const page = PAGES[place];
		if (page) void navigate({ to: page.to, params: { tenant } });
	};
	// The list of pages is a constant: the same hooks at each render.
	for (const [place, page] of PAGES.entries()) {
		// biome-ignore lint/correctness/useHookAtTopLevel: see above.
		useKey(letters ? `g ${page.letter}` : undefined, `go to ${page.name}`, () => go(place));
	}
}

const PAGES = sections.flatMap((group) => [...group.pages]);

function Navigation({ tenant }: { tenant: string }): ReactNode {
	return (
		<nav className={css.navigation} aria-label="Pages">
			{sections.map((group) => (
				<ul key={group.name}>
					{group.pages.map((page) => (
						<li key={page.to} data-small={page.isSmall || undefined}>
							<Link
								to={page.to}
								params={{ tenant }}
								activeOptions={{ exact: page.to === "/t/$tenant", includeSearch: false }}
								activeProps={{ "aria-current": "page" }}
							>
								{page.name}
								{page.name === "Attention" && <AttentionCount />}
							</Link>
						</li>
					))}
				</ul>
			))}
			<More tenant={tenant} />
		</nav>
	);
}

function AttentionCount(): ReactNode {
	const count = useAttentionCount();
	if (!count) return null;
	return (
		<>
			{" "}
			<Badge size="sm" variant="default" className={css.count}>
				{count > 999 ? "999+" : count}
			</Badge>
		</>
	);
}
