/** What this mesh is: versions, mode, and who looks at it. */
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ask, askText, client } from "../../api/client";
import { useMe } from "../../app/session";
import { Command } from "../../parts/command";
import { Pane } from "../../parts/pane";
import { Facts, Section } from "../../parts/section";

interface Health {
	readonly status: string;
	readonly version: string;
	readonly nats_connected: boolean;
	readonly database_connected: boolean;
}

export function About(): ReactNode {
	const me = useMe();
	const health = useQuery({
		queryKey: ["health"],
		queryFn: async ({ signal }) => JSON.parse(await askText("/health", { signal })) as Health,
	});
	const services = useQuery({
		queryKey: ["about", "services"],
		queryFn: ({ signal }) => ask(client.GET("/api/v1/services", { signal })),
	});
	const versions = [...new Set(services.data?.items.map((service) => service.version))];
	return (
		<>
			<Section title="This mesh">
				<Pane query={health} rows={3}>
					{(told) => (
						<Facts
							of={[
								["Health", told.status],
								["Gateway", `version ${told.version}`],
								["Services", versions.length > 0 && `version ${versions.join(", ")}`],
								["NATS", told.nats_connected ? "connected" : "not connected"],
								["Database", told.database_connected ? "connected" : "not connected"],
								[
									"Mode",
									me.mode === "development"
										? "development: nobody signs in, and only this machine is answered"
										: "credentials are demanded",
								],
							]}
						/>
					)}
				</Pane>
				<p>
					<a href="/docs">API, browsable</a> · <a href="/metrics">metrics</a>
				</p>
				<Command text="mesh doctor" />
			</Section>
			<Section title="You">
				<Facts
					of={[
						["Acts as", me.actor],
						["Role", me.role],
						["Name", me.user?.name],
						["Tenants", me.tenants.map((of) => `${of.tenant} (${of.role})`).join(", ")],
					]}
				/>
			</Section>
		</>
	);
}
