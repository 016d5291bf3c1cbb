/** What `send` puts on a write, for the one request that is not made by `fetch`: an upload that tells its progress. */
import { session } from "../app/session";
import { currentTenant, randomKey, tokens } from "./client";

export async function askHeaders(): Promise<Record<string, string>> {
	const tenant = currentTenant();
	const now = session.get();
	const isSigned = !(now.kind === "here" && now.me.mode === "development");
	return {
		"Mesh-Tenant": tenant,
		"Idempotency-Key": randomKey(),
		...(isSigned ? { Authorization: `Bearer ${await tokens.get(tenant)}` } : {}),
	};
}
