/** One answer: streamed while it is made, then as recorded; what it waits for, what went wrong, what it did. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useRef, useState } from "react";
import { ask, client } from "../../api/client";
import { span, Time } from "../../app/time";
import { useTopic } from "../../live/live";
import { Act } from "../../parts/act";
import { Pane } from "../../parts/pane";
import { StateMark } from "../../parts/state";
import { Approvals } from "./approvals";
import css from "./chat.module.css";
import { keepTurn, keys, readInvocation } from "./data";
import { answerIn, type Block, blocksOf, fold, type Invocation, isEnded, NOTHING, type Progress, type Step } from "./fold";
import { ProseView } from "./prose-view";

/** Steps that are read when somebody asks what was done. */
const STEPS = 200;

interface AnswerProps {
	readonly tenant: string;
	readonly turn: Invocation;
	/** Of a channel the answer comes as a message; here stands only what leads to it. */
	readonly isBrief?: boolean;
}

export function Answer({ tenant, turn, isBrief = false }: AnswerProps): ReactNode {
	const progress = useProgress(tenant, turn);
	const shown: Invocation = isEnded(turn.state) ? turn : { ...turn, ...progress.told, id: turn.id };
	const isOpen = !isEnded(shown.state);
	const hasSaid = progress.blocks.some((block) => block.kind === "text" && !block.isVoid);
	return (
		<article className={css.answer} aria-label={`Answer of ${turn.agent}`}>
			<AnswerHead tenant={tenant} turn={shown} />
			<div aria-busy={isOpen}>
				{(isOpen || (isBrief && hasSaid)) && progress.blocks.map((block) => <BlockView key={blockKey(block)} block={block} />)}
				{!isOpen && isBrief && shown.error && <Failed error={shown.error} />}
				{!isOpen && !isBrief && <Ended tenant={tenant} turn={shown} blocks={progress.blocks} />}
				{isOpen && shown.state === "running" && !hasSaid && <p className={css.dim}>thinking…</p>}
			</div>
			{shown.state === "waiting" && <Approvals tenant={tenant} turn={shown} />}
			{isOpen && shown.error && <Failed error={shown.error} />}
			{isOpen && shown.reason && <p className={css.dim}>{shown.reason.replaceAll("_", " ")}</p>}
		</article>
	);
}

function blockKey(block: Block): string {
	return block.kind === "text" ? `${block.step}:text:${block.attempt}:${block.isVoid}` : `${block.step}:step`;
}

/** Events of one invocation, folded while it is open; its end is read as it is recorded. */
function useProgress(tenant: string, turn: Invocation): Progress {
	const queries = useQueryClient();
	const [progress, setProgress] = useState<Progress>(NOTHING);
	// Pushes of one frame fold one after the other, before React draws.
	const latest = useRef<Progress>(NOTHING);
	const set = (next: Progress) => {
		latest.current = next;
		setProgress(next);
	};
	const readAgain = () => void readInvocation(turn.id).then((read) => keepTurn(queries, tenant, read)).catch(() => undefined);
	useTopic(isEnded(turn.state) ? undefined : `invocation:${turn.id}`, {
		push: (push) => {
			const next = fold(latest.current, push.event, push.data);
			set(next);
			if (next.state && isEnded(next.state) && push.event.startsWith("invocation.")) readAgain();
		},
		reset: () => {
			set(NOTHING);
			readAgain();
		},
	});
	return progress;
}

function AnswerHead({ tenant, turn }: { tenant: string; turn: Invocation }): ReactNode {
	const took = turn.ended_at ? Date.parse(turn.ended_at) - Date.parse(turn.created_at) : undefined;
	const { output_tokens: tokens = 0, cost_usd: cost = 0 } = turn.usage;
	return (
		<header className={css.head}>
			<strong>{turn.agent}</strong>
			{turn.state !== "completed" && <StateMark state={turn.state} />}
			<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: turn.id }} aria-label={`Invocation ${turn.id}`}>
				invocation
			</Link>
			<span className={css.dim}>
				<Time at={turn.created_at} />
				{took !== undefined && ` · ${span(took)}`}
				{tokens > 0 && ` · ${tokens.toLocaleString("en")} tokens`}
				{cost > 0 && ` · $${cost.toFixed(3)}`}
				{turn.provider === "mock" && " · mock"}
			</span>
			{!isEnded(turn.state) && (
				<Act
					label="Stop"
					least="service"
					size="compact-xs"
					command={`mesh cancel ${turn.id}`}
					until={turn.state}
					run={() =>
						ask(client.POST("/api/v1/invocations/{id}/cancel", { params: { path: { id: turn.id } }, body: { reason: null } }))
					}
				/>
			)}
		</header>
	);
}

function Failed({ error }: { error: NonNullable<Invocation["error"]> }): ReactNode {
	return (
		<div className={css.failed}>
			<strong>{error.title}</strong>
			<p>{error.detail}</p>
			{error.next && <p>Next: {error.next}</p>}
		</div>
	);
}

function Ended({ tenant, turn, blocks }: { tenant: string; turn: Invocation; blocks: readonly Block[] }): ReactNode {
	const [isOpen, setOpen] = useState(false);
	const said = answerIn(turn.output);
	// Where nothing came of it, what was heard of it until then.
	const before = said === "" ? blocks : blocks.filter((block) => block.kind === "text" && block.isVoid);
	return (
		<>
			{before.map((block) => (
				<BlockView key={blockKey(block)} block={block} />
			))}
			{said !== "" && <ProseView text={said} />}
			{turn.error && <Failed error={turn.error} />}
			<details className={css.did} open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
				<summary>What it did</summary>
				{isOpen && <Did tenant={tenant} id={turn.id} />}
			</details>
		</>
	);
}

function Did({ tenant, id }: { tenant: string; id: string }): ReactNode {
	const steps = useQuery({
		queryKey: keys.steps(tenant, id),
		queryFn: ({ signal }) =>
			ask(client.GET("/api/v1/invocations/{id}/steps", { signal, params: { path: { id }, query: { limit: STEPS } } })),
	});
	return (
		<Pane query={steps} rows={2} isEmpty={(page) => blocksOf(page.items).length === 0} empty="Only the answer: no tool was called.">
			{(page) => (
				<>
					{blocksOf(page.items).map((block) => (
						<BlockView key={blockKey(block)} block={block} />
					))}
					{page.next && (
						<Link to="/t/$tenant/invocations/$id" params={{ tenant, id }}>
							more steps
						</Link>
					)}
				</>
			)}
		</Pane>
	);
}

function BlockView({ block }: { block: Block }): ReactNode {
	if (block.kind === "step") return <StepView step={block.record} />;
	if (!block.isVoid) return <ProseView text={block.text} />;
	return (
		<details className={css.void}>
			<summary>try {block.attempt}, void</summary>
			<s>{block.text}</s>
		</details>
	);
}

function StepView({ step }: { step: Step }): ReactNode {
	const took = step.ended_at ? Date.parse(step.ended_at) - Date.parse(step.started_at) : undefined;
	return (
		<details className={css.tool} data-failed={step.error ? "true" : undefined}>
			<summary>
				{step.kind === "tool" ? "" : `${step.kind} `}
				<code>{step.name}</code> {step.error ? "failed" : ""}
				{took !== undefined && <span className={css.dim}> {span(took)}</span>}
			</summary>
			<Value name="asked" value={step.input} />
			{step.error ? <Failed error={step.error} /> : <Value name="answered" value={step.output} />}
		</details>
	);
}

/** Characters of a value that a talk shows; the invocation has all of it. */
const VALUE_MAX = 4_000;

function Value({ name, value }: { name: string; value: unknown }): ReactNode {
	if (value === undefined || value === null) return null;
	const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
	const isCut = text.length > VALUE_MAX;
	return (
		<div>
			<span className={css.dim}>{name}</span>
			<pre tabIndex={0} className={css.value}>
				{isCut ? `${text.slice(0, VALUE_MAX)}…` : text}
			</pre>
			{isCut && <span className={css.dim}>{text.length.toLocaleString("en")} characters: the invocation shows all.</span>}
		</div>
	);
}
