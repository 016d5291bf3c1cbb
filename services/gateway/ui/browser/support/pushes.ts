/** A socket of the test's own in place of the mesh's: pushes when the test says so. */
import type { Page, WebSocketRoute } from "@playwright/test";

export interface Pushes {
	/** Sends a push of a topic. */
	push(topic: string, event: string, data: object): Promise<void>;
	/** Topics that the page subscribed, in their order. */
	readonly topics: string[];
}

export async function routePushes(page: Page): Promise<Pushes> {
	let socket: WebSocketRoute | undefined;
	let cursor = 0;
	const topics: string[] = [];
	await page.routeWebSocket(/\/api\/v1\/ws/, (route) => {
		let hasBegun = false;
		socket = route;
		route.onMessage((text) => {
			const said = JSON.parse(String(text)) as { subscribe?: string[] };
			const isFirst = !hasBegun;
			hasBegun = true;
			topics.push(...(said.subscribe ?? []));
			const subscribed = said.subscribe?.map((topic) => topic.replace(/@.*/, ""));
			if (isFirst) route.send(JSON.stringify({ live: true, cursor: String(cursor) }));
			else if (subscribed?.length) route.send(JSON.stringify({ subscribed, cursor: String(cursor) }));
		});
	});
	return {
		topics,
		push: async (topic, event, data) => {
			socket?.send(JSON.stringify({ cursor: String(++cursor), topic, event, data }));
		},
	};
}
