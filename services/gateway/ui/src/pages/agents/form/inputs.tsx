/** Inputs of single values, each with its hint, its default and what is wrong with it. */
import { NativeSelect, Textarea, TextInput } from "@mantine/core";
import { type ReactNode, useState } from "react";
import type { Field, NumberField, Path } from "./form";
import { pathText } from "./form";
import css from "./form.module.css";

export interface InputProps<F extends Field = Field> {
	readonly field: F;
	readonly path: Path;
	readonly label: string;
	readonly value: unknown;
	readonly error: string | undefined;
	readonly isRequired: boolean;
	readonly isFixed: boolean;
	/** Its name is said, not shown. */
	readonly isBare: boolean;
	/** `undefined` leaves it out. */
	change(value: unknown): void;
}

/** Names of fields whose texts have several lines. */
const LONG = new Set(["instructions", "description"]);

export function inputId(path: Path): string {
	return `field:${pathText(path)}`;
}

function common({ field, path, label, error, isRequired, isBare }: InputProps) {
	const fallback = field.default === undefined || typeof field.default === "object" ? undefined : String(field.default);
	const hint = [field.hint, bounds(field)].filter(Boolean).join(" ");
	return {
		id: inputId(path),
		...(isBare ? { "aria-label": label } : { label, withAsterisk: isRequired }),
		size: "xs" as const,
		...(hint ? { description: hint } : {}),
		...(error === undefined ? {} : { error }),
		...(fallback ? { placeholder: fallback } : {}),
	};
}

function bounds(field: Field): string {
	if (field.kind !== "number") return "";
	const { min, max } = field;
	if (min !== undefined && max !== undefined) return `${min} to ${max}.`;
	if (max !== undefined) return `At most ${max}.`;
	return min ? `At least ${min}.` : "";
}

export function TextOf(props: InputProps): ReactNode {
	const { value, change, isFixed } = props;
	const shown = value === undefined || value === null ? "" : String(value);
	const heard = (text: string) => change(text === "" && !props.isRequired ? undefined : text);
	if (LONG.has(String(props.path.at(-1)))) {
		return (
			<Textarea
				{...common(props)}
				value={shown}
				readOnly={isFixed}
				rows={Math.min(12, Math.max(3, shown.split("\n").length + 1))}
				onChange={(event) => heard(event.currentTarget.value)}
			/>
		);
	}
	return (
		<TextInput
			{...common(props)}
			value={shown}
			readOnly={isFixed}
			onChange={(event) => heard(event.currentTarget.value)}
		/>
	);
}

/** What is typed stays as typed while it is: `1.` is on its way to `1.5`. */
export function NumberOf(props: InputProps<NumberField>): ReactNode {
	const { value, change, isFixed } = props;
	const [typed, setTyped] = useState<string>();
	const shown = typed ?? (value === undefined || value === null ? "" : String(value));
	return (
		<TextInput
			{...common(props)}
			value={shown}
			readOnly={isFixed}
			inputMode={props.field.whole ? "numeric" : "decimal"}
			onBlur={() => setTyped(undefined)}
			onChange={(event) => {
				const text = event.currentTarget.value;
				setTyped(text);
				change(numberOf(text));
			}}
		/>
	);
}

/** A number where it is one; else the text, which the check then names. */
export function numberOf(text: string): unknown {
	const trimmed = text.trim();
	if (trimmed === "") return undefined;
	const number = Number(trimmed);
	return Number.isFinite(number) ? number : trimmed;
}

export function ChoiceOf(props: InputProps & { readonly of: readonly string[] }): ReactNode {
	const { value, change, of, isFixed, field, isRequired } = props;
	const held = typeof value === "string" ? value : "";
	const fallback = typeof field.default === "string" ? `${field.default} (default)` : "as by default";
	const options = [
		...(isRequired ? [] : [{ value: "", label: fallback }]),
		...(held !== "" && !of.includes(held) ? [{ value: held, label: `${held} (unknown)` }] : []),
		...of.map((one) => ({ value: one, label: one })),
	];
	const { placeholder: _, ...rest } = common(props);
	return (
		<NativeSelect
			{...rest}
			value={held}
			disabled={isFixed}
			data={options}
			onChange={(event) => change(event.currentTarget.value === "" ? undefined : event.currentTarget.value)}
		/>
	);
}

const FLAGS = ["true", "false"];

export function FlagOf(props: InputProps): ReactNode {
	const value = typeof props.value === "boolean" ? String(props.value) : props.value;
	const change = (text: unknown) => props.change(text === undefined ? undefined : text === "true");
	const fallback = typeof props.field.default === "boolean" ? { default: String(props.field.default) } : {};
	const { default: _, ...field } = props.field;
	return <ChoiceOf {...props} field={{ ...field, ...fallback } as Field} value={value} change={change} of={FLAGS} />;
}

/** Any JSON, such as a schema. While it is none, the document keeps what it had. */
export function JsonOf(props: InputProps): ReactNode {
	const { value, change, isFixed } = props;
	const [typed, setTyped] = useState<string>();
	const shown = typed ?? (value === undefined ? "" : JSON.stringify(value, null, 2));
	const isBroken = typed !== undefined && typed.trim() !== "" && parsed(typed) === undefined;
	return (
		<Textarea
			{...common(props)}
			{...(isBroken ? { error: "is no JSON yet: the document keeps what it had" } : {})}
			classNames={{ input: css.code ?? "" }}
			value={shown}
			readOnly={isFixed}
			rows={Math.min(16, shown.split("\n").length + 1)}
			onBlur={() => !isBroken && setTyped(undefined)}
			onChange={(event) => {
				const text = event.currentTarget.value;
				setTyped(text);
				if (text.trim() === "") change(undefined);
				else if (parsed(text) !== undefined) change(parsed(text)?.value);
			}}
		/>
	);
}

function parsed(text: string): { value: unknown } | undefined {
	try {
		return { value: JSON.parse(text) };
	} catch {
		return undefined;
	}
}
