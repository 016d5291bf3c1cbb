/** Every page of the UI: where it is, what it is called, and where it has nothing to show. */

export interface PageOf {
	readonly name: string;
	/** `$invocation`: one that has ended. */
	readonly path: string;
	/** Of its first heading. */
	readonly title: string;
	/** Default: the same path in a tenant that nobody used. `$queued`: an invocation without a step. */
	readonly empty?: string;
}

export const PAGES: readonly PageOf[] = [
	{ name: "overview", path: "/t/default", title: "Overview" },
	{ name: "invocations", path: "/t/default/invocations", title: "Invocations" },
	{ name: "invocation", path: "/t/default/invocations/$invocation", title: "ada@1", empty: "/t/default/invocations/$queued" },
	{ name: "chat", path: "/t/default/chat", title: "Chat" },
	{ name: "talk", path: "/t/default/chat?agent=ada&session=seeded", title: "Chat: ada", empty: "/t/default/chat?agent=ada&session=none" },
	{ name: "attention", path: "/t/default/attention", title: "Attention" },
	{ name: "agents", path: "/t/default/agents", title: "Agents" },
	{ name: "agent", path: "/t/default/agents/ada", title: "ada", empty: "/t/default/agents/fresh" },
	{ name: "versions", path: "/t/default/agents/ada?tab=versions", title: "ada", empty: "/t/default/agents/fresh?tab=versions" },
	{ name: "memory", path: "/t/default/memory", title: "Memory" },
	{ name: "knowledge", path: "/t/default/memory?tab=knowledge", title: "Memory" },
	{ name: "nodes", path: "/t/default/nodes", title: "Nodes" },
	{ name: "node", path: "/t/default/nodes/kitchen", title: "", empty: "/t/default/nodes/kitchen" },
	{ name: "reconciler", path: "/t/default/reconciler", title: "Reconciler" },
	{ name: "services", path: "/t/default/services", title: "Services" },
	{ name: "settings", path: "/t/default/settings", title: "Settings" },
	{ name: "keys", path: "/t/default/settings?tab=keys", title: "Settings" },
	{ name: "tokens", path: "/t/default/settings?tab=tokens", title: "Settings" },
	{ name: "audit", path: "/t/default/settings?tab=audit", title: "Settings" },
	{ name: "about", path: "/t/default/settings?tab=about", title: "Settings" },
];

/** With the ids of this run. */
export function pathOf(path: string): string {
	return path.replace("$invocation", process.env.BROWSER_INVOCATION ?? "").replace("$queued", process.env.BROWSER_QUEUED ?? "");
}

export function emptyOf(page: PageOf, tenant: string): string {
	return pathOf(page.empty ?? page.path.replace("/t/default", `/t/${tenant}`));
}

/** In a tenant that has one agent and one invocation, and in which nothing happens. */
export function idleOf(path: string): string {
	return path.replace("/t/default", "/t/idle").replace("$invocation", process.env.BROWSER_IDLE_INVOCATION ?? "");
}
