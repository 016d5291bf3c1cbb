/** Fork at a step: what is edited, what would become of each step, counted by the server, and then the new branch. */
import { Button, Modal, SegmentedControl } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ask, askText, client, type Schema } from "../../api/client";
import { useBarred } from "../../parts/act";
import { Command } from "../../parts/command";
import { Pane, Trouble } from "../../parts/pane";
import { addBranch, bodyOf } from "./data";
import { Editor } from "./editor";
import { type Kind, mistakeIn, NAMES, startOf } from "./edits";
import css from "./fork.module.css";
import { buttonWords, editsOf, type ForkStep, fateWords, forkBody } from "./forecast";
import { type Invocation, type Step, titleOf } from "./steps";

interface ForkProps {
	readonly tenant: string;
	readonly invocation: Invocation;
	readonly steps: readonly Step[];
	readonly from: number;
	close(): void;
}

export function ForkDialog(props: ForkProps): ReactNode {
	const { invocation, from, close } = props;
	return (
		<Modal
			opened
			onClose={close}
			size="xl"
			title={`Fork ${invocation.agent} at step ${from}`}
			closeButtonProps={{ "aria-label": "Close" }}
		>
			<Form key={from} {...props} />
		</Modal>
	);
}

function Form({ tenant, invocation, steps, from, close }: ForkProps): ReactNode {
	const { id } = invocation;
	const step = steps.find((one) => one.number === from);
	const kinds: readonly Kind[] = [...editsOf(step?.ended_at ? step.kind : undefined), "nothing"];
	const [kind, setKind] = useState<Kind>(kinds[0] ?? "nothing");
	const [texts, setTexts] = useState<{ readonly [kind in Kind]?: string }>({});
	/** The edit that the forecast is of: what was typed, once the field is left. */
	const [told, setTold] = useState<string>();
	const body = useQuery(bodyOf(tenant, id, step ? from : undefined));
	const spec = useSpec(tenant, invocation);
	const start = startOf(kind, step, body.data ?? undefined, spec.data);
	const text = texts[kind] ?? start;
	const edit = kind === "nothing" ? undefined : kind;
	const wrong = text === undefined ? undefined : mistakeIn(kind, text);
	const request = text === undefined || wrong !== undefined ? undefined : forkBody(from, edit, text);
	const forecast = useForecast(tenant, id, from, kind, kind === "nothing" || kind === "instructions" ? request : (told ?? request));
	const choose = (next: Kind) => {
		setKind(next);
		setTold(undefined);
	};
	return (
		<div className={css.form}>
			<SegmentedControl
				aria-label="What is edited"
				size="xs"
				value={kind}
				data={kinds.map((value) => ({ value, label: NAMES[value] }))}
				onChange={(value) => choose(value as Kind)}
			/>
			<Editor
				kind={kind}
				step={step}
				text={text}
				change={(value) => setTexts({ ...texts, [kind]: value })}
				left={() => request !== undefined && setTold(request)}
			/>
			<Pane query={forecast} rows={4}>
				{(reply) => <Forecast steps={reply.steps} from={from} />}
			</Pane>
			<Go tenant={tenant} id={id} from={from} kind={kind} request={request} steps={forecast.data?.steps} close={close} />
		</div>
	);
}

interface GoProps {
	readonly tenant: string;
	readonly id: string;
	readonly from: number;
	readonly kind: Kind;
	readonly request: string | undefined;
	readonly steps: readonly ForkStep[] | undefined;
	close(): void;
}

function Go({ tenant, id, from, kind, request, steps, close }: GoProps): ReactNode {
	const navigate = useNavigate();
	const cache = useQueryClient();
	const why = useBarred("operator", request === undefined ? "the edit is not complete" : undefined);
	const fork = useMutation({
		mutationFn: (sent: string) => post(id, sent, false),
		onSuccess: async ({ invocation }) => {
			if (!invocation) return;
			addBranch(cache, tenant, invocation);
			await navigate({ to: "/t/$tenant/invocations/$id", params: { tenant, id: invocation.id }, search: { step: from } });
		},
	});
	const edited = kind === "nothing" ? "" : " --edit edit.yaml";
	return (
		<>
			{fork.isError && <Trouble error={fork.error} retry={() => request && fork.mutate(request)} />}
			<div className={css.foot}>
				<Command text={`mesh fork ${id} --from-step ${from}${edited}`} />
				<Button variant="default" size="compact-md" onClick={close}>
					Not now
				</Button>
				<Button
					size="compact-md"
					classNames={{ root: css.go ?? "", label: css.goLabel ?? "" }}
					disabled={why !== undefined || steps === undefined}
					title={why}
					loading={fork.isPending}
					onClick={() => request && fork.mutate(request)}
				>
					{steps === undefined ? "Fork" : buttonWords(steps)}
				</Button>
			</div>
		</>
	);
}

async function post(id: string, request: string, isDry: boolean): Promise<Schema["ForkReply"]> {
	const path = `/api/v1/invocations/${id}/fork${isDry ? "?dry_run=true" : ""}`;
	const headers = { "content-type": "application/json" };
	return JSON.parse(await askText(path, { method: "POST", headers, body: request })) as Schema["ForkReply"];
}

/** What the server says would happen: it depends on what is edited, and refuses an edit that does not fit. */
function useForecast(tenant: string, id: string, from: number, kind: Kind, request: string | undefined) {
	const sent = kind === "instructions" ? forkBody(from, "instructions", "") : request;
	return useQuery({
		queryKey: [tenant, "invocation", id, "forecast", from, sent],
		queryFn: () => post(id, sent ?? "", true),
		enabled: sent !== undefined,
		gcTime: 0,
	});
}

/** The agent as it was published for this invocation. */
function useSpec(tenant: string, { agent, version }: Invocation) {
	return useQuery({
		queryKey: [tenant, "agent", agent, "version", version],
		queryFn: async ({ signal }) => {
			let after: string | undefined;
			do {
				const query = { limit: 500, ...(after === undefined ? {} : { after }) };
				const read = client.GET("/api/v1/agents/{agent}/versions", { signal, params: { path: { agent }, query } });
				const { items, next } = await ask(read);
				const found = items.find((item) => item.version === version);
				if (found) return found.spec;
				after = next ?? undefined;
			} while (after !== undefined);
			return null;
		},
	});
}

function Forecast({ steps, from }: { steps: readonly ForkStep[]; from: number }): ReactNode {
	const before = steps.filter((step) => step.fate === "read").length;
	const rest = steps.filter((step) => step.fate !== "read");
	return (
		// biome-ignore lint/a11y/noNoninteractiveTabindex: a box that scrolls is reached by keyboard.
		<section aria-label="Forecast" tabIndex={0} className={css.forecast}>
			{before > 0 && (
				<p className={css.dim}>
					{before === 1 ? "step 1 is" : `steps 1–${before} are`} read as recorded, free
				</p>
			)}
			{rest.length > 1 && <p className={css.dim}>after {from}, if it goes as its source went:</p>}
			<ol>
				{rest.map((step) => (
					<li key={step.step} data-fate={step.fate}>
						<span className={css.number}>{step.step}</span>
						<span>{titleOf(step)}</span>
						<span title={step.because}>{fateWords(step, from)}</span>
					</li>
				))}
			</ol>
		</section>
	);
}
