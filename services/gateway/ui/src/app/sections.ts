/** Pages of the navigation, in their order and groups. */

interface PageLink {
	readonly to:
		| "/t/$tenant"
		| `/t/$tenant/${"invocations" | "chat" | "attention" | "agents" | "memory" | "nodes" | "reconciler" | "services" | "settings"}`;
	readonly name: string;
	/** After `g`. */
	readonly letter: string;
	/** In the bottom bar of a small window; the others are behind "More". */
	readonly isSmall?: true;
}

export const sections: readonly { readonly name: string; readonly pages: readonly PageLink[] }[] = [
	{
		name: "work",
		pages: [
			{ to: "/t/$tenant", name: "Overview", letter: "o", isSmall: true },
			{ to: "/t/$tenant/invocations", name: "Invocations", letter: "i", isSmall: true },
			{ to: "/t/$tenant/chat", name: "Chat", letter: "c", isSmall: true },
			{ to: "/t/$tenant/attention", name: "Attention", letter: "w", isSmall: true },
		],
	},
	{
		name: "what",
		pages: [
			{ to: "/t/$tenant/agents", name: "Agents", letter: "a" },
			{ to: "/t/$tenant/memory", name: "Memory", letter: "m" },
		],
	},
	{
		name: "where",
		pages: [
			{ to: "/t/$tenant/nodes", name: "Nodes", letter: "n" },
			{ to: "/t/$tenant/reconciler", name: "Reconciler", letter: "r" },
			{ to: "/t/$tenant/services", name: "Services", letter: "s" },
		],
	},
	{ name: "who", pages: [{ to: "/t/$tenant/settings", name: "Settings", letter: "t" }] },
];
