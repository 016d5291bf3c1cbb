/** What the next pass would do, as the server says it; nothing is applied. */
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { Time } from "../../app/time";
import { Command } from "../../parts/command";
import { Pane } from "../../parts/pane";
import { Sentences } from "../nodes/sentences";
import css from "./reconciler.module.css";
import { Seen } from "./passes";

export function DryRun({ tenant }: { tenant: string }): ReactNode {
	// Always asked anew: it answers a question about now.
	const plan = useQuery({
		queryKey: [tenant, "plan"],
		queryFn: ({ signal }) => ask(client.POST("/api/v1/plan", { signal })),
		gcTime: 0,
		staleTime: 0,
	});
	return (
		<Pane query={plan} rows={3}>
			{(pass) => (
				<>
					<Sentences actions={pass.actions} nothing="Nothing to do: all is as it should be." />
					{(pass.more ?? 0) > 0 && <p>and {pass.more} more</p>}
					<Seen pass={pass} />
					<p className={css.dim}>
						As of <Time at={pass.at} />; nothing was changed.
					</p>
					<Command text="mesh plan" />
				</>
			)}
		</Pane>
	);
}
