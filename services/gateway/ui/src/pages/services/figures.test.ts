import { expect, it } from "vitest";
import { type Reading, type ServiceState, serviceRows, type ServiceView } from "./figures";

function view(name: string, instance: string, endpoints: [string, number, number][]): ServiceView {
	return {
		name,
		instance,
		version: "1",
		started_at: "1970-01-01T00:00:00Z",
		requests: endpoints.reduce((sum, [, requests]) => sum + requests, 0),
		errors: 1,
		endpoints: endpoints.map(([of, requests, average_ms]) => ({
			name: of,
			requests,
			errors: 0,
			last_error: "",
			average_ms,
			p99_ms: 3 * average_ms,
		})),
	};
}

const state = (name: string, degraded: boolean) => ({ name, degraded, instances: 1, since: "T" }) as ServiceState;

it("adds up processes and endpoints of one name, weighing times by requests", () => {
	const now: Reading = {
		at: 10_000,
		services: [
			view("memory", "a", [
				["get", 30, 1],
				["list", 10, 9],
			]),
			view("memory", "b", [["get", 10, 5]]),
		],
	};
	const [row, gone] = serviceRows(now, undefined, [state("registry", true), state("memory", false)]);
	expect(row).toMatchObject({
		name: "memory",
		isDegraded: false,
		requests: 50,
		errors: 2,
		per_second: 5,
		average_ms: 3.4,
	});
	expect(row?.slowest).toMatchObject({ name: "list", average_ms: 9 });
	expect(row?.endpoints.find((endpoint) => endpoint.name === "get")?.average_ms).toBe(2);
	expect(row?.endpoints.find((endpoint) => endpoint.name === "get")?.p99_ms).toBe(15);
	expect(gone).toMatchObject({ name: "registry", isDegraded: true, requests: 0 });
});

it("takes rates since the reading before where there is one, and a new process since its start", () => {
	const before: Reading = { at: 8_000, services: [view("memory", "a", [["get", 30, 1]])] };
	const now: Reading = {
		at: 10_000,
		services: [view("memory", "a", [["get", 40, 1]]), view("memory", "b", [["get", 10, 1]])],
	};
	expect(serviceRows(now, before, [])[0]?.per_second).toBe(5 + 1);
});
