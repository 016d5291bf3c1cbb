/** The cache of what was read. Nothing in it goes stale by time: events say what changed. */
import { QueryClient } from "@tanstack/react-query";
import { Failure } from "../api/problem";

const TRIES_MAX = 2;

export const queries = new QueryClient({
	defaultOptions: {
		queries: {
			staleTime: Number.POSITIVE_INFINITY,
			refetchOnWindowFocus: false,
			// While nobody looked, nobody listened: what changed meanwhile is read when somebody comes back.
			refetchOnMount: (query) => (query.getObserversCount() <= 1 ? "always" : false),
			refetchOnReconnect: false,
			retry: (failures, error) => failures < TRIES_MAX && error instanceof Failure && error.isTransient,
			retryDelay: (failures) => Math.min(500 * 2 ** failures, 4_000),
		},
		mutations: { retry: false },
	},
});
