/** One memory: all of it, where it came from, what it was before, and its acts. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { Time } from "../../app/time";
import { Copy } from "../../parts/command";
import { Pane } from "../../parts/pane";
import { Facts, Section } from "../../parts/section";
import { useRevisions } from "./data";
import { EditMemory } from "./edit";
import { ForgetOne } from "./forget";
import css from "./memory.module.css";
import type { Memory } from "./score";

export function OpenMemory({ tenant, id }: { tenant: string; id: string }): ReactNode {
	const revisions = useRevisions(tenant, id);
	const close = (
		<Link to="." search={({ memory: _, ...rest }) => rest} resetScroll={false}>
			close
		</Link>
	);
	return (
		<div className={css.open}>
			<Section title="Memory, open" aside={close}>
				<Pane query={revisions} rows={6}>
					{({ memory, items }) => (
						<>
							<p className={css.whole}>{memory.content}</p>
							<span className={css.acts}>
								<EditMemory tenant={tenant} memory={memory} />
								<ForgetOne tenant={tenant} memory={memory} />
							</span>
							<About tenant={tenant} memory={memory} />
							<Section title={items.length === 0 ? "Never changed" : "What it was before"} level={3}>
								<ol className={css.revisions}>
									{items.map((old) => (
										<li key={old.version}>
											<span className={css.dim}>
												version {old.version}, until <Time at={old.changed_at} /> by {old.changed_by}, importance{" "}
												{old.importance.toFixed(2)}
												{old.tags.length > 0 && `, ${old.tags.map((tag) => `#${tag}`).join(" ")}`}
											</span>
											<p className={css.whole}>{old.content}</p>
										</li>
									))}
								</ol>
							</Section>
						</>
					)}
				</Pane>
			</Section>
		</div>
	);
}

function About({ tenant, memory }: { tenant: string; memory: Memory }): ReactNode {
	const { source } = memory;
	return (
		<Facts
			of={[
				[
					"Id",
					<span key="id">
						<code>{memory.id}</code> <Copy text={memory.id} what="the memory's id" />
					</span>,
				],
				[
					"Agent",
					<Link key="agent" to="/t/$tenant/agents/$agent" params={{ tenant, agent: memory.agent }}>
						{memory.agent}
					</Link>,
				],
				["Type", memory.type],
				["Scope", memory.scope],
				["Session", memory.session],
				["User", memory.user],
				["Tags", memory.tags.join(", ")],
				["Importance", memory.importance.toFixed(2)],
				["Version", memory.version],
				["Told", (memory.seen ?? 1) > 1 && `${memory.seen} times`],
				[
					"Came from",
					source && (
						<Link
							key="source"
							to="/t/$tenant/invocations/$id"
							params={{ tenant, id: source.invocation }}
							search={{ step: source.step }}
						>
							step {source.step} of {source.invocation}
						</Link>
					),
				],
				["Replaced by", memory.superseded_by && <Replacement key="by" id={memory.superseded_by} />],
				["Stored", <Time key="stored" at={memory.created_at} />],
				["Changed", <Time key="changed" at={memory.updated_at} />],
				["Kept until", memory.expires_at ? <Time key="until" at={memory.expires_at} /> : "forgotten"],
				["Meaning", memory.embedded ? "embedded" : "not embedded yet: found by its words only"],
			]}
		/>
	);
}

function Replacement({ id }: { id: string }): ReactNode {
	return (
		<Link to="." search={(old) => ({ ...old, memory: id })} resetScroll={false}>
			{id}
		</Link>
	);
}
