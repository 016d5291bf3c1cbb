/** One step: what came of it, what it saw, and the bytes as they were recorded. */
import { Tabs } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo } from "react";
import { span, Time } from "../../app/time";
import { Field, Fields } from "../../parts/field";
import { JsonTree } from "../../parts/json-tree";
import { Pane } from "../../parts/pane";
import { Decide } from "../attention/decide";
import type { Body } from "./body";
import { bodyOf } from "./data";
import css from "./detail.module.css";
import { Model, Saw, StreamedText } from "./model";
import { money } from "./money";
import { Raw } from "./raw";
import type { Tab } from "./search";
import { at, parsed } from "./slices";
import { CLASS_WORDS, hasFailed, type Invocation, type Moment, type Step, titleOf, tookMs, waitWords } from "./steps";
import { type Streams, useStreamed } from "./stream";

interface DetailProps {
	readonly tenant: string;
	readonly invocation: Invocation;
	readonly step: Step;
	/** Whose step it is: the invocation's own, or that of a child that is open in the waterfall. */
	readonly owner: string;
	readonly history: readonly Moment[];
	readonly streams: Streams;
	readonly tab: Tab;
	readonly now: number;
	choose(tab: Tab): void;
}

export function Detail(props: DetailProps): ReactNode {
	const { tenant, owner, step, tab, choose } = props;
	const body = useQuery(bodyOf(tenant, owner, step.number));
	const isModel = step.kind === "model";
	const streamed = useStreamed(props.streams, owner === props.invocation.id ? step.number : 0);
	const parts = body.data ?? undefined;
	const isRead = parts !== undefined && parts.output !== "null";
	return (
		<section className={css.detail} aria-label={`Step ${step.number}`}>
			<Head {...props} output={parts?.output} />
			<Tabs value={tab} onChange={(value) => choose((value ?? "wrote") as Tab)} keepMounted={false}>
				<Tabs.List>
					<Tabs.Tab value="wrote">{isModel ? "Wrote" : "Result"}</Tabs.Tab>
					<Tabs.Tab value="saw">{isModel ? "Saw" : "Arguments"}</Tabs.Tab>
					<Tabs.Tab value="raw">Raw</Tabs.Tab>
				</Tabs.List>
				<Tabs.Panel value={tab} className={css.panel}>
					{tab === "wrote" && isModel && <StreamedText streamed={streamed} isRead={isRead} />}
					<Pane query={body} rows={4}>
						{() => <Parts {...props} of={parts} hasText={(streamed?.text ?? "") !== ""} />}
					</Pane>
				</Tabs.Panel>
			</Tabs>
		</section>
	);
}

function Parts({ of, hasText, ...props }: DetailProps & { of: Body | undefined; hasText: boolean }): ReactNode {
	const { step, tab, tenant, owner } = props;
	if (!of) return hasText ? null : <p className={css.dim}>Nothing of it is recorded yet.</p>;
	if (tab === "raw") {
		return (
			<>
				<Raw name="Input" text={of.input} />
				<Raw name="Output" text={of.output} />
			</>
		);
	}
	if (tab === "saw") {
		if (step.kind === "model") return <Saw tenant={tenant} owner={owner} input={of.input} />;
		return <JsonTree label={`Input of step ${step.number}`} text={of.input} />;
	}
	if (step.kind === "model") return <Model step={step} output={of.output} hasText={hasText} />;
	return <Result step={step} of={of} />;
}

function Result({ step, of }: { step: Step; of: Body }): ReactNode {
	if (of.output === "null") {
		if (step.ended_at) return <p className={css.dim}>It has no result.</p>;
		// Who decides on it, or waits for it, wants to know what was asked.
		return (
			<>
				<p className={css.dim}>It has no result yet. Its arguments:</p>
				<JsonTree label={`Arguments of step ${step.number}`} text={of.input} />
			</>
		);
	}
	return <JsonTree label={`Result of step ${step.number}`} text={of.output} />;
}

function Head(props: DetailProps & { output: string | undefined }): ReactNode {
	const { tenant, invocation, owner, step, history, now, output } = props;
	const isOwn = owner === invocation.id;
	const waits = isOwn ? waitWords(step, history, now) : undefined;
	const provider = useMemo(() => providerOf(step, output), [step, output]);
	const usage = step.usage;
	const hasUsage = (usage.input_tokens ?? 0) + (usage.output_tokens ?? 0) > 0;
	const waiting = isOwn ? invocation.waits_for?.find((item) => item.step === step.number) : undefined;
	return (
		<>
			<h2 className={css.title}>
				{step.number} {titleOf(step)}
				{step.attempt > 1 && <span className={css.dim}>, try {step.attempt} of {step.attempt}</span>}
				{!isOwn && (
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: owner }} search={{ step: step.number }}>
						of …{owner.slice(-6)}
					</Link>
				)}
			</h2>
			{step.error && (
				<div role="note" className={css.error}>
					<strong>{step.error.title}</strong> <span>{step.error.detail}</span>
					{step.error.next && <p>Next: {step.error.next}</p>}
					<code className={css.dim}>{step.error.type}</code>
				</div>
			)}
			{waits && <p className={css.waits}>~ {waits} ~</p>}
			{(waiting?.on === "approval" || waiting?.on === "ambiguous") && (
				<Decide id={`${invocation.id}-${step.number}`} kind={waiting.on} name={step.name} withKeys={false} />
			)}
			<Fields label="About the step">
				{hasUsage && (
					<>
						<Field name="tokens">
							{(usage.input_tokens ?? 0).toLocaleString("en")} in, {(usage.output_tokens ?? 0).toLocaleString("en")} out
						</Field>
						<Field name="cost">{money(usage.cost_usd ?? 0)}</Field>
					</>
				)}
				{provider && (
					<Field name="provider">
						{provider === "mock" ? <strong className={css.mock}>mock: no model answered</strong> : provider}
					</Field>
				)}
				<Field name={step.ended_at ? "took" : "so far"}>{span(tookMs(step, now))}</Field>
				<Field name="began">
					<Time at={step.started_at} />
				</Field>
				<Field name="class">
					<span title={CLASS_WORDS[step.effect]}>{step.effect.replaceAll("_", " ")}</span>
				</Field>
				<Field name="claim">{step.epoch}</Field>
				{step.effect !== "pure" && (
					<Field name="key">
						<code className={css.key}>
							{owner}/{step.number}
						</code>
					</Field>
				)}
			</Fields>
			{step.attempt > 1 && (
				<p className={css.dim}>
					{step.attempt - 1} {step.attempt === 2 ? "try" : "tries"} failed before{hasFailed(step) ? " this one" : ""}; the
					journal keeps how many, and the last one.
				</p>
			)}
		</>
	);
}

/** Who answered, where the output is one of a model. */
function providerOf(step: Step, output: string | undefined): string | undefined {
	if (step.kind !== "model" || output === undefined || output === "null") return undefined;
	const range = at(output, ["provider"]);
	const provider = range === undefined ? undefined : parsed(output, range);
	return typeof provider === "string" ? provider : undefined;
}
