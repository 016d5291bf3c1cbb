/** What the pages are to show: agents, invocations that ended well and badly, one that waits for a person, a memory. */
import type { Mesh } from "./mesh";

export async function post<T>(url: string, path: string, body: unknown, tenant = "default"): Promise<T> {
	const response = await fetch(`${url}${path}`, {
		method: "POST",
		headers: { "content-type": "application/json", "Mesh-Tenant": tenant },
		body: JSON.stringify(body),
	});
	const text = await response.text();
	if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${text}`);
	return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Declares an agent that answers from a script of the mock model, and publishes it. */
export async function declare(
	mesh: Pick<Mesh, "url">,
	name: string,
	spec: Record<string, unknown>,
	tenant = "default",
): Promise<void> {
	await post(mesh.url, "/api/v1/agents", { metadata: { name }, spec }, tenant);
	await post(mesh.url, `/api/v1/agents/${name}/publish`, {}, tenant);
}

/** Answers the ids that tests of pages need, as variables of their environment. */
export async function seed(mesh: Mesh): Promise<Record<string, string>> {
	const { url } = mesh;
	await declare(mesh, "ada", { instructions: "You answer.", model: { name: "mock" } });
	const ended: string[] = [];
	for (const text of ["Summarise the report", "Pay invoice 88", "What is open?"]) {
		const { id } = await post<{ id: string }>(url, "/api/v1/agents/ada/invocations?wait=20", { payload: { text } });
		ended.push(id);
	}
	await post(url, "/api/v1/memories", { agent: "ada", type: "semantic", content: "Invoice 88 belongs to Ann." });
	await post(url, "/api/v1/agents", { metadata: { name: "fresh" }, spec: { instructions: "Never published." } });
	// Its place is nowhere, so that its invocation stays without a step.
	await declare(mesh, "nowhere", { model: { name: "mock" }, placement: { replicas: 1, node_selector: { of: "nowhere" } } });
	const { id } = await post<{ id: string }>(url, "/api/v1/agents/nowhere/invocations", { payload: { text: "Wait" } });
	await declare(mesh, "ada", { model: { name: "mock" } }, "idle");
	const idle = await post<{ id: string }>(url, "/api/v1/agents/ada/invocations?wait=20", { payload: { text: "Once" } }, "idle");
	return { BROWSER_IDLE_INVOCATION: idle.id, BROWSER_INVOCATION: ended[0] ?? "", BROWSER_QUEUED: id };
}
