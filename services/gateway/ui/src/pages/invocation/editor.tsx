/** The field of the fork dialog: texts as text, message by message; what is no text as JSON. */
import { Checkbox, Textarea, TextInput } from "@mantine/core";
import { type ReactNode, useState } from "react";
import { type Kind, messagesOf, mistakeIn, withText } from "./edits";
import css from "./fork.module.css";
import { type Step, titleOf } from "./steps";

interface EditorProps {
	readonly kind: Kind;
	readonly step: Step | undefined;
	/** JSON of a prompt or a result, else a text; `undefined` while it is read. */
	readonly text: string | undefined;
	change(text: string): void;
	/** The field is left: what was typed may be asked about. */
	left(): void;
}

export function Editor(props: EditorProps): ReactNode {
	const { kind, step, text, change, left } = props;
	switch (kind) {
		case "nothing":
			return <p className={css.dim}>It runs again from here, as it is.</p>;
		case "model":
			return (
				<TextInput
					label="Model, for all later steps"
					value={text ?? ""}
					disabled={text === undefined}
					error={text === undefined ? undefined : mistakeIn(kind, text)}
					onChange={(event) => change(event.currentTarget.value)}
					onBlur={left}
				/>
			);
		case "instructions":
			return <Text label="Instructions, for all later steps" value={text} change={change} left={left} />;
		case "prompt":
			return <Prompt {...props} />;
		case "output":
			return <Output {...props} label={`Result of ${step ? titleOf(step) : "the step"}`} />;
	}
}

interface TextProps {
	readonly label: string;
	readonly value: string | undefined;
	readonly isCode?: boolean;
	readonly error?: string | undefined;
	change(text: string): void;
	left(): void;
}

function Text({ label, value, isCode = false, error, change, left }: TextProps): ReactNode {
	return (
		<Textarea
			label={label}
			autosize
			minRows={2}
			maxRows={14}
			spellCheck={!isCode}
			value={value ?? ""}
			disabled={value === undefined}
			error={error}
			classNames={{ input: (isCode ? css.code : css.plain) ?? "" }}
			onChange={(event) => change(event.currentTarget.value)}
			onBlur={left}
		/>
	);
}

/** A model's text without its quotes; all else as JSON. */
function Output({ text, change, left, label }: EditorProps & { label: string }): ReactNode {
	const read = text === undefined ? undefined : attempt(text);
	if (typeof read === "string") {
		return <Text label={label} value={read} change={(value) => change(JSON.stringify(value))} left={left} />;
	}
	const error = text === undefined ? undefined : mistakeIn("output", text);
	return <Text label={`${label}, as JSON`} value={text} isCode error={error} change={change} left={left} />;
}

function attempt(json: string): unknown {
	try {
		return JSON.parse(json);
	} catch {
		return undefined;
	}
}

function Prompt({ text, change, left }: EditorProps): ReactNode {
	const [isJson, setJson] = useState(false);
	const messages = text === undefined ? undefined : messagesOf(text);
	const error = text === undefined ? undefined : mistakeIn("prompt", text);
	return (
		<div className={css.prompt}>
			<Checkbox size="xs" label="as JSON" checked={isJson} onChange={(event) => setJson(event.currentTarget.checked)} />
			{isJson || !messages || text === undefined ? (
				<Text label="Messages that the model is asked, as JSON" value={text} isCode error={error} change={change} left={left} />
			) : (
				messages.map((message, index) =>
					message.text === undefined ? (
						<p key={index.toString()} className={css.dim}>
							{message.role}: no text; edit it as JSON
						</p>
					) : (
						<Text
							key={index.toString()}
							label={`${message.role}, message ${index + 1}`}
							value={message.text}
							change={(value) => change(withText(text, message, value))}
							left={left}
						/>
					),
				)
			)}
		</div>
	);
}
