/** What it is and how it went: agent, id, state, time, cost; what it waits for or failed of; the acts on it. */
import { Link, useNavigate } from "@tanstack/react-router";
import { Button } from "@mantine/core";
import type { ReactNode } from "react";
import { ask, client } from "../../api/client";
import { useKey } from "../../app/keys";
import { span, Time } from "../../app/time";
import { Act, useBarred } from "../../parts/act";
import { Copy } from "../../parts/command";
import { Field, Fields } from "../../parts/field";
import { StateMark } from "../../parts/state";
import css from "./invocation.module.css";
import { money } from "./money";
import type { Invocation, Step } from "./steps";

interface HeadProps {
	readonly tenant: string;
	readonly invocation: Invocation;
	readonly steps: readonly Step[];
	/** The step that a fork would begin at. */
	readonly shown: number | undefined;
	readonly now: number;
}

export function Head({ tenant, invocation, steps, shown, now }: HeadProps): ReactNode {
	const { id, agent, version, state, created_at, ended_at } = invocation;
	const took = (ended_at ? Date.parse(ended_at) : now) - Date.parse(created_at);
	const usage = ended_at ? invocation.usage : summed(steps);
	return (
		<div className={css.head}>
			<div className={css.bar}>
				<h1 className={css.title}>
					<Link to="/t/$tenant/agents/$agent" params={{ tenant, agent }}>
						{agent}@{version}
					</Link>
				</h1>
				<span className={css.id}>
					<code title={id}>…{id.slice(-6)}</code>
					<Copy text={id} what="the id" />
				</span>
				<span role="status" className={css.state}>
					<StateMark state={state} />
					{invocation.paused && !ended_at && <strong>paused</strong>}
				</span>
				<span className={css.acts}>
					<Acts invocation={invocation} steps={steps} shown={shown} />
				</span>
			</div>
			<Why tenant={tenant} invocation={invocation} />
			<Fields label="About it">
				<Field name="asked">
					<Time at={created_at} />
				</Field>
				<Field name={ended_at ? "took" : "so far"}>{span(Math.max(0, took))}</Field>
				<Field name="tokens">
					{usage.input_tokens?.toLocaleString("en")} in, {usage.output_tokens?.toLocaleString("en")} out
				</Field>
				<Field name="cost">{money(usage.cost_usd ?? 0)}</Field>
				{steps.length > 0 && <Field name="steps">{steps.length.toLocaleString("en")}</Field>}
				{invocation.attempt > 1 && <Field name="claims">{invocation.attempt}</Field>}
				{invocation.session && (
					<Field name="session">
						<Link to="/t/$tenant/invocations" params={{ tenant }} search={{ session: invocation.session }}>
							{invocation.session}
						</Link>
					</Field>
				)}
				{invocation.parent && (
					<Field name="called by">
						<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: invocation.parent }}>
							…{invocation.parent.slice(-6)}
						</Link>
					</Field>
				)}
			</Fields>
		</div>
	);
}

function summed(steps: readonly Step[]): Invocation["usage"] {
	const sum = { input_tokens: 0, output_tokens: 0, cost_usd: 0 };
	for (const { usage } of steps) {
		sum.input_tokens += usage.input_tokens ?? 0;
		sum.output_tokens += usage.output_tokens ?? 0;
		sum.cost_usd += usage.cost_usd ?? 0;
	}
	return sum;
}

/** Reason first: what it failed of, or what it waits for. */
function Why({ tenant, invocation }: { tenant: string; invocation: Invocation }): ReactNode {
	const { error, reason, state, waits_for = [] } = invocation;
	if (error) {
		return (
			<p className={css.why} data-bad="true">
				<strong>{error.title}</strong> {error.detail}
				{error.next && <span className={css.dim}> Next: {error.next}</span>}
			</p>
		);
	}
	if (state === "waiting") {
		return (
			<ul className={css.why}>
				{waits_for.map((item) => (
					<li key={`${item.on}${item.step}`}>
						<Link to="." search={(search) => ({ ...search, step: item.step })}>
							step {item.step}
						</Link>{" "}
						<Waits tenant={tenant} item={item} />
					</li>
				))}
			</ul>
		);
	}
	return reason ? <p className={css.why}>{reason.replaceAll("_", " ")}</p> : null;
}

function Waits({ tenant, item }: { tenant: string; item: NonNullable<Invocation["waits_for"]>[number] }): ReactNode {
	switch (item.on) {
		case "timer":
			return (
				<>
					waits until <Time at={item.until} />
				</>
			);
		case "approval":
			return `waits for a person to allow ${item.tool}`;
		case "ambiguous":
			return `may have happened: did ${item.name}?`;
		case "signal":
			return `waits for the signal ${item.name}`;
		case "child":
			return (
				<>
					waits for{" "}
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: item.invocation }}>
						…{item.invocation.slice(-6)}
					</Link>
				</>
			);
	}
}

function Acts({ invocation, steps, shown }: Pick<HeadProps, "invocation" | "steps" | "shown">): ReactNode {
	const { id, state, ended_at, paused, forked_from } = invocation;
	const navigate = useNavigate({ from: "/t/$tenant/invocations/$id" });
	const why = useBarred("operator", steps.length === 0 ? "nothing is recorded yet" : undefined);
	const fork = () => {
		if (why !== undefined) return false;
		void navigate({ search: (search) => ({ ...search, fork: shown ?? 1 }) });
	};
	useKey("f", "fork at this step", fork);
	const compare = () => {
		if (!forked_from) return false;
		void navigate({ search: (search) => ({ ...search, compare: forked_from.invocation }) });
	};
	useKey("c", "compare with its source", compare);
	const path = { params: { path: { id } } };
	return (
		<>
			<Button size="compact-sm" variant="default" onClick={fork} aria-disabled={why !== undefined} title={why}>
				Fork at {shown ?? 1} <kbd className={css.key}>f</kbd>
			</Button>
			{forked_from && (
				<Button size="compact-sm" variant="default" onClick={compare}>
					Compare <kbd className={css.key}>c</kbd>
				</Button>
			)}
			{!ended_at && (
				<>
					<Act
						label={paused ? "Resume" : "Pause"}
						least="operator"
						command={`mesh ${paused ? "resume" : "pause"} ${id}`}
						until={paused}
						run={() =>
							ask(
								paused
									? client.POST("/api/v1/invocations/{id}/resume", path)
									: client.POST("/api/v1/invocations/{id}/pause", path),
							)
						}
					/>
					<Act
						label="Cancel"
						least="service"
						tone="danger"
						command={`mesh cancel ${id}`}
						confirm={<p>It ends as cancelled; what it called ends with it. {steps.length} recorded steps stay.</p>}
						yes="Cancel it"
						until={state}
						run={() => ask(client.POST("/api/v1/invocations/{id}/cancel", path))}
					/>
				</>
			)}
		</>
	);
}
