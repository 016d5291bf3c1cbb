/** A new agent: what is needed to begin, with the YAML that it makes; everything else comes in the editor. */
import { Button, Modal, NativeSelect, Textarea, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import { Failure } from "../../api/problem";
import { useKey } from "../../app/keys";
import { useBarred } from "../../parts/act";
import { Command } from "../../parts/command";
import { Trouble } from "../../parts/pane";
import css from "./agents.module.css";
import { keep, useModels } from "./data";
import { check } from "./form/check";
import { write } from "./form/document";
import { agentForm } from "./form/form";
import { starter } from "./starter";

const RUNTIMES = [
	{ value: "llm", label: "llm: a model with tools" },
	{ value: "script", label: "script: a program" },
	{ value: "cli", label: "cli: an agent's command line" },
	{ value: "http", label: "http: answers elsewhere" },
];

export function CreateAct({ tenant }: { tenant: string }): ReactNode {
	const [isOpen, setOpen] = useState(false);
	const barred = useBarred("developer");
	useKey("c", "new agent", () => barred === undefined && setOpen(true));
	return (
		<>
			<Button size="compact-sm" disabled={barred !== undefined} title={barred} onClick={() => setOpen(true)}>
				New agent
			</Button>
			<Modal
				opened={isOpen}
				onClose={() => setOpen(false)}
				title="New agent"
				size="lg"
				closeButtonProps={{ "aria-label": "Close" }}
			>
				{isOpen && <Create tenant={tenant} close={() => setOpen(false)} />}
			</Modal>
		</>
	);
}

function Create({ tenant, close }: { tenant: string; close: () => void }): ReactNode {
	const queries = useQueryClient();
	const navigate = useNavigate();
	const models = useModels(tenant).data ?? [];
	const [name, setName] = useState("");
	const [runtime, setRuntime] = useState("llm");
	const [model, setModel] = useState("");
	const [instructions, setInstructions] = useState("");
	const object = starter({ name, runtime, model: model || models[0] || "mock", instructions });
	const wrong = name === "" ? undefined : check(object, agentForm).find(({ path }) => path.at(-1) === "name");
	const creation = useMutation({
		mutationFn: () => ask(client.POST("/api/v1/agents", { body: object as unknown as Schema["Agent"] })),
		onSuccess: async (agent) => {
			keep(queries, tenant, agent);
			close();
			await navigate({ to: "/t/$tenant/agents/$agent", params: { tenant, agent: agent.metadata.name } });
		},
	});
	const taken = creation.error instanceof Failure && creation.error.problem.status === 409;
	return (
		<form
			className={css.stack}
			onSubmit={(event) => {
				event.preventDefault();
				if (name !== "" && !wrong && !creation.isPending) creation.mutate();
			}}
		>
			<TextInput
				label="Name"
				description="Letters, digits, _ and -; it stays for ever."
				data-autofocus
				required
				value={name}
				error={wrong?.message ?? (taken ? "there is an agent of this name" : undefined)}
				onChange={(event) => setName(event.currentTarget.value)}
			/>
			<NativeSelect
				label="Runtime"
				value={runtime}
				data={RUNTIMES}
				onChange={(event) => setRuntime(event.currentTarget.value)}
			/>
			{runtime === "llm" && (
				<ModelFields
					models={models}
					model={model}
					setModel={setModel}
					instructions={instructions}
					setInstructions={setInstructions}
				/>
			)}
			<details>
				<summary>As YAML</summary>
				<pre>{write(object)}</pre>
			</details>
			<Command text={`mesh apply -f ${name || "agent"}.yaml`} />
			{creation.isError && !taken && <Trouble error={creation.error} retry={() => creation.mutate()} />}
			<div className={css.buttons}>
				<Button variant="default" onClick={close}>
					Not now
				</Button>
				<Button type="submit" loading={creation.isPending} disabled={name === "" || wrong !== undefined}>
					Create the draft
				</Button>
			</div>
		</form>
	);
}

interface ModelProps {
	readonly models: readonly string[];
	readonly model: string;
	setModel(name: string): void;
	readonly instructions: string;
	setInstructions(text: string): void;
}

function ModelFields({ models, model, setModel, instructions, setInstructions }: ModelProps): ReactNode {
	return (
		<>
			<NativeSelect
				label="Model"
				value={model || models[0] || "mock"}
				data={models.length > 0 ? [...models] : ["mock"]}
				onChange={(event) => setModel(event.currentTarget.value)}
			/>
			<Textarea
				label="Instructions"
				rows={4}
				value={instructions}
				onChange={(event) => setInstructions(event.currentTarget.value)}
			/>
		</>
	);
}
