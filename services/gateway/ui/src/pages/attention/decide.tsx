/** A person's decision: allow or refuse a call; of an ambiguous step: it happened, run it again, take it as failed. */
import { Textarea, TextInput } from "@mantine/core";
import { useParams } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { askText } from "../../api/client";
import { Act } from "../../parts/act";
import css from "./attention.module.css";
import { useSettle } from "./data";

interface DecideProps {
	/** `<invocation>-<step>`. */
	readonly id: string;
	readonly kind: "approval" | "ambiguous";
	/** The tool. */
	readonly name: string;
	/** `a` and `d` decide on this one. */
	readonly withKeys: boolean;
}

export function Decide({ id, kind, name, withKeys }: DecideProps): ReactNode {
	const { tenant = "default" } = useParams({ strict: false });
	const [note, setNote] = useState("");
	const settle = useSettle(tenant);
	const decide = (decision: "approve" | "deny", output?: string) => async () => {
		const parts = [`"decision":"${decision}"`];
		if (note.trim() !== "") parts.push(`"note":${JSON.stringify(note.trim())}`);
		// As it was written: numbers keep their digits.
		if (output !== undefined) parts.push(`"output":${output}`);
		const headers = { "content-type": "application/json" };
		await askText(`/api/v1/approvals/${id}`, { method: "POST", headers, body: `{${parts.join(",")}}` });
		settle(id);
	};
	const said = note.trim() === "" ? "" : ` --note ${JSON.stringify(note.trim())}`;
	return (
		<div className={css.decide}>
			<TextInput
				size="xs"
				className={css.note}
				aria-label={`Note on ${name}`}
				placeholder="note, for the journal and the agent"
				value={note}
				onChange={(event) => setNote(event.currentTarget.value)}
			/>
			{kind === "approval" ? (
				<>
					<Act
						label="Approve"
						least="operator"
						tone="primary"
						command={`mesh approve ${id}${said}`}
						run={decide("approve")}
						{...(withKeys ? { hotkey: "a" } : {})}
					/>
					<Act
						label="Deny"
						least="operator"
						command={`mesh deny ${id}${said}`}
						run={decide("deny")}
						{...(withKeys ? { hotkey: "d" } : {})}
					/>
				</>
			) : (
				<Ambiguous id={id} name={name} decide={decide} />
			)}
		</div>
	);
}

function Ambiguous(props: {
	id: string;
	name: string;
	decide: (decision: "approve" | "deny", output?: string) => () => Promise<void>;
}): ReactNode {
	const { id, name, decide } = props;
	const [result, setResult] = useState("");
	const written = asJson(result);
	return (
		<>
			<p className={css.question}>
				Its worker was lost while <strong>{name}</strong> ran. Did it happen?
			</p>
			<Textarea
				size="xs"
				autosize
				minRows={1}
				maxRows={8}
				className={css.result}
				aria-label={`Result of ${name}`}
				placeholder='its result: JSON, such as {"ok":true}, or a text'
				value={result}
				onChange={(event) => setResult(event.currentTarget.value)}
			/>
			<Act
				label="Yes, with this result"
				least="operator"
				command={`mesh approve ${id} --result '${written}'`}
				barred={result.trim() === "" ? "write its result first" : undefined}
				run={decide("approve", written)}
			/>
			<Act
				label="No: run it again"
				least="operator"
				command={`mesh approve ${id}`}
				confirm={
					<p>
						<strong>{name}</strong> is called once more. If it did happen, the world sees it twice.
					</p>
				}
				run={decide("approve")}
			/>
			<Act
				label="Take it as failed"
				least="operator"
				tone="danger"
				command={`mesh deny ${id}`}
				confirm={<p>The agent reads that {name} failed, and goes on without its result.</p>}
				run={decide("deny")}
			/>
		</>
	);
}

/** What is no JSON is taken as text, as the command line does. */
export function asJson(text: string): string {
	try {
		JSON.parse(text);
		return text;
	} catch {
		return JSON.stringify(text);
	}
}
