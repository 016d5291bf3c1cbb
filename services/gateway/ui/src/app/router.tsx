/** Pages by path. The URL is the state: tenant, filters, selection, tab; each page checks its own search part. */
import {
	createRootRoute,
	createRoute,
	createRouter,
	lazyRouteComponent,
	Outlet,
	redirect,
} from "@tanstack/react-router";
import { currentTenant, setTenant } from "../api/client";
import { restartLive } from "../live/live";
import { agentSearch, agentsSearch } from "../pages/agents/search";
import { attentionSearch } from "../pages/attention/search";
import { chatSearch } from "../pages/chat/search";
import { debuggerSearch } from "../pages/invocation/search";
import { memorySearch } from "../pages/memory/search";
import { nodeSearch, nodesSearch } from "../pages/nodes/search";
import { overviewSearch } from "../pages/overview/search";
import { reconcilerSearch } from "../pages/reconciler/search";
import { servicesSearch } from "../pages/services/search";
import { settingsSearch } from "../pages/settings/search";
import { signInSearch } from "../pages/sign-in/search";
import { Broken } from "./broken";
import { later } from "./later";
import { Missing } from "./missing";
import { invocationSearch } from "./search";
import { Shell } from "./shell";

const root = createRootRoute({ component: Outlet, notFoundComponent: Missing, errorComponent: Broken });

const home = createRoute({
	getParentRoute: () => root,
	path: "/",
	beforeLoad: () => {
		throw redirect({ to: "/t/$tenant", params: { tenant: "default" }, replace: true });
	},
});

const signIn = createRoute({
	getParentRoute: () => root,
	path: "/sign-in",
	validateSearch: signInSearch,
	component: lazyRouteComponent(later(() => import("../pages/sign-in/sign-in")), "SignIn"),
});

const tenant = createRoute({
	getParentRoute: () => root,
	path: "/t/$tenant",
	beforeLoad: ({ params, preload }) => {
		if (preload || params.tenant === currentTenant()) return;
		setTenant(params.tenant);
		restartLive();
	},
	component: Shell,
});

const overview = createRoute({
	getParentRoute: () => tenant,
	path: "/",
	validateSearch: overviewSearch,
	component: lazyRouteComponent(later(() => import("../pages/overview/overview")), "Overview"),
});

const invocations = createRoute({
	getParentRoute: () => tenant,
	path: "/invocations",
	validateSearch: invocationSearch,
	component: lazyRouteComponent(later(() => import("../pages/invocations/invocations")), "Invocations"),
});

const invocation = createRoute({
	getParentRoute: () => tenant,
	path: "/invocations/$id",
	validateSearch: debuggerSearch,
	component: lazyRouteComponent(later(() => import("../pages/invocation/invocation")), "InvocationPage"),
});

const chats = createRoute({
	getParentRoute: () => tenant,
	path: "/chat",
	validateSearch: chatSearch,
	component: lazyRouteComponent(later(() => import("../pages/chat/chat")), "Chat"),
});

const chat = createRoute({
	getParentRoute: () => tenant,
	path: "/chat/$channel",
	validateSearch: chatSearch,
	component: lazyRouteComponent(later(() => import("../pages/chat/chat")), "Chat"),
});

const attention = createRoute({
	getParentRoute: () => tenant,
	path: "/attention",
	validateSearch: attentionSearch,
	component: lazyRouteComponent(later(() => import("../pages/attention/attention")), "Attention"),
});

const agents = createRoute({
	getParentRoute: () => tenant,
	path: "/agents",
	validateSearch: agentsSearch,
	component: lazyRouteComponent(later(() => import("../pages/agents/agents")), "Agents"),
});

const agent = createRoute({
	getParentRoute: () => tenant,
	path: "/agents/$agent",
	validateSearch: agentSearch,
	component: lazyRouteComponent(later(() => import("../pages/agents/agent")), "AgentPage"),
});

const memory = createRoute({
	getParentRoute: () => tenant,
	path: "/memory",
	validateSearch: memorySearch,
	component: lazyRouteComponent(later(() => import("../pages/memory/memory")), "MemoryPage"),
});

const nodes = createRoute({
	getParentRoute: () => tenant,
	path: "/nodes",
	validateSearch: nodesSearch,
	component: lazyRouteComponent(later(() => import("../pages/nodes/nodes")), "Nodes"),
});

const node = createRoute({
	getParentRoute: () => tenant,
	path: "/nodes/$node",
	validateSearch: nodeSearch,
	component: lazyRouteComponent(later(() => import("../pages/nodes/node")), "NodePage"),
});

const reconciler = createRoute({
	getParentRoute: () => tenant,
	path: "/reconciler",
	validateSearch: reconcilerSearch,
	component: lazyRouteComponent(later(() => import("../pages/reconciler/reconciler")), "Reconciler"),
});

const services = createRoute({
	getParentRoute: () => tenant,
	path: "/services",
	validateSearch: servicesSearch,
	component: lazyRouteComponent(later(() => import("../pages/services/services")), "Services"),
});

const settings = createRoute({
	getParentRoute: () => tenant,
	path: "/settings",
	validateSearch: settingsSearch,
	component: lazyRouteComponent(later(() => import("../pages/settings/settings")), "Settings"),
});

const pages = [
	overview,
	invocations,
	invocation,
	chats,
	chat,
	attention,
	agents,
	agent,
	memory,
	nodes,
	node,
	reconciler,
	services,
	settings,
] as const;

export const router = createRouter({
	routeTree: root.addChildren([home, signIn, tenant.addChildren(pages)]),
	defaultPreload: "intent",
	defaultPreloadStaleTime: 0,
	scrollRestoration: true,
	notFoundMode: "root",
});

declare module "@tanstack/react-router" {
	interface Register {
		router: typeof router;
	}
}
