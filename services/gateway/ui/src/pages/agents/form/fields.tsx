/** The form of one agent, drawn from its schema: groups, lists and maps around the inputs of single values. */
import { ActionIcon, Button, TextInput } from "@mantine/core";
import { createContext, type ReactNode, use, useEffect, useState } from "react";
import { isMap, type Issue } from "./check";
import { type Field, type GroupField, type ListField, type MapField, type Path, pathText } from "./form";
import css from "./form.module.css";
import { ChoiceOf, FlagOf, inputId, type InputProps, JsonOf, NumberOf, TextOf } from "./inputs";
import { fresh, heading, isOffered, isOpenFirst, words, wordsFirst } from "./layout";

interface Form {
	readonly issues: readonly Issue[];
	readonly isFixed: boolean;
	/** Fields that are not shown: what an editor of one agent fixes. */
	readonly without: readonly string[];
	patch(path: Path, value: unknown): void;
}

const FormContext = createContext<Form>({ issues: [], isFixed: true, without: [], patch: () => {} });

interface FormProps extends Form {
	readonly form: GroupField;
	readonly value: unknown;
}

/** What runs comes first, without a fold around; what it is called stands below. */
export function AgentForm({ form, value, ...rest }: FormProps): ReactNode {
	const held = isMap(value) ? value : {};
	const groups = Object.entries(form.fields).reverse();
	return (
		<FormContext value={rest}>
			<div className={css.form}>
				{groups.map(([name, field]) =>
					field.kind === "group" ? <Members key={name} group={field} path={[name]} value={held[name]} /> : null,
				)}
			</div>
		</FormContext>
	);
}

interface FieldProps<F extends Field = Field> {
	readonly field: F;
	readonly path: Path;
	readonly label: string;
	readonly value: unknown;
	readonly isRequired: boolean;
	/** Its name is said, not shown: a list's items are told apart by their places. */
	readonly isBare?: boolean;
}

function Members({ group, path, value }: { group: GroupField; path: Path; value: unknown }): ReactNode {
	const { without } = use(FormContext);
	// A bare text is the short form of a group.
	const held = group.short !== undefined && typeof value === "string" ? { [group.short]: value } : isMap(value) ? value : {};
	const names = wordsFirst(Object.keys(group.fields)).filter((name) => !without.includes(pathText([...path, name])));
	return names.map((name) => {
		const field = group.fields[name];
		if (!field || !isOffered(group, name, held)) return null;
		return (
			<FieldView
				key={name}
				field={field}
				path={[...path, name]}
				label={words(name)}
				value={held[name]}
				isRequired={group.required.includes(name)}
			/>
		);
	});
}

function FieldView(props: FieldProps): ReactNode {
	const { field } = props;
	switch (field.kind) {
		case "group":
			return <GroupView {...props} field={field} />;
		case "list":
			return <ListView {...props} field={field} />;
		case "map":
			return <MapView {...props} field={field} />;
		default:
			return <ValueView {...props} />;
	}
}

function useIssues(path: Path): { own: string | undefined; within: number } {
	const { issues } = use(FormContext);
	const text = pathText(path);
	const of = (one: Issue) => pathText(one.path);
	const own = issues.filter((one) => of(one) === text).map(({ message }) => message);
	const within = issues.filter((one) => of(one) === text || of(one).startsWith(`${text}.`) || of(one).startsWith(`${text}[`));
	return { own: own.length > 0 ? own.join("; ") : undefined, within: within.length };
}

function ValueView({ field, path, label, value, isRequired, isBare = false }: FieldProps): ReactNode {
	const { patch, isFixed } = use(FormContext);
	const { own } = useIssues(path);
	const props: InputProps = {
		field,
		path,
		label,
		value,
		error: own,
		isRequired,
		isFixed,
		isBare,
		change: (next) => patch(path, next),
	};
	switch (field.kind) {
		case "number":
			return <NumberOf {...props} field={field} />;
		case "choice":
			return <ChoiceOf {...props} of={field.of} />;
		case "flag":
			return <FlagOf {...props} />;
		case "json":
			return <JsonOf {...props} />;
		default:
			return <TextOf {...props} />;
	}
}

/** A group folds. It opens by itself where something in it is wrong. */
function Fold({ path, title, children, acts }: { path: Path; title: string; children: ReactNode; acts?: ReactNode }): ReactNode {
	const { own, within } = useIssues(path);
	const [isOpen, setOpen] = useState(() => isOpenFirst(path));
	useEffect(() => {
		if (within > 0) setOpen(true);
	}, [within]);
	return (
		<details className={css.group} open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
			<summary id={inputId(path)}>
				<span className={css.name}>{title}</span>
				{within > 0 && <span className={css.wrong}>{within === 1 ? "1 problem" : `${within} problems`}</span>}
			</summary>
			{own && <p className={css.wrong}>{own}</p>}
			{isOpen && <div className={css.members}>{children}</div>}
			{isOpen && acts}
		</details>
	);
}

function GroupView({ field, path, label, value, isRequired }: FieldProps<GroupField>): ReactNode {
	const { patch, isFixed } = use(FormContext);
	const isOptional = field.default === undefined && !isRequired && path.length > 1;
	if (isOptional && (value === undefined || value === null)) {
		return (
			<div className={css.absent}>
				<Button
					size="compact-xs"
					variant="default"
					id={inputId(path)}
					disabled={isFixed}
					onClick={() => patch(path, fresh(field))}
				>
					Add {label.toLowerCase()}
				</Button>
				{field.hint && <span className={css.hint}>{field.hint}</span>}
			</div>
		);
	}
	const acts = isOptional && !isFixed && (
		<Button size="compact-xs" variant="default" onClick={() => patch(path, undefined)}>
			Remove {label.toLowerCase()}
		</Button>
	);
	return (
		<Fold path={path} title={label} acts={acts}>
			<Members group={field} path={path} value={value} />
		</Fold>
	);
}

function ListView({ field, path, label, value }: FieldProps<ListField>): ReactNode {
	const { patch, isFixed } = use(FormContext);
	const { own } = useIssues(path);
	const items = Array.isArray(value) ? value : [];
	const one = label.toLowerCase().replace(/s$/, "");
	const remove = (at: number) => patch([...path, at], undefined);
	const add = () => patch(items.length === 0 ? path : [...path, items.length], items.length === 0 ? [fresh(field.of)] : fresh(field.of));
	return (
		<fieldset className={css.list} id={inputId(path)} tabIndex={-1}>
			<legend>{label}</legend>
			{field.hint && <p className={css.hint}>{field.hint}</p>}
			{own && <p className={css.wrong}>{own}</p>}
			{items.map((item, at) => {
				const inner = [...path, at];
				// Places, not contents, are the identity of what is edited here.
				const key = pathText(inner);
				if (field.of.kind !== "group") {
					return (
						<div key={key} className={css.item}>
							<FieldView field={field.of} path={inner} label={`${one} ${at + 1}`} value={item} isRequired isBare />
							{!isFixed && <Remove what={`${one} ${at + 1}`} run={() => remove(at)} />}
						</div>
					);
				}
				const title = heading(item, `${one} ${at + 1}`);
				const acts = !isFixed && (
					<Button size="compact-xs" variant="default" onClick={() => remove(at)}>
						Remove {title}
					</Button>
				);
				return (
					<Fold key={key} path={inner} title={title} acts={acts}>
						<Members group={field.of} path={inner} value={item} />
					</Fold>
				);
			})}
			{!isFixed && (
				<Button size="compact-xs" variant="default" onClick={add} disabled={field.max !== undefined && items.length >= field.max}>
					Add {one}
				</Button>
			)}
		</fieldset>
	);
}

function MapView({ field, path, label, value }: FieldProps<MapField>): ReactNode {
	const { patch, isFixed } = use(FormContext);
	const { own } = useIssues(path);
	const [name, setName] = useState("");
	const entries = Object.entries(isMap(value) ? value : {});
	const isTaken = entries.some(([key]) => key === name);
	const add = () => {
		if (name.trim() === "" || isTaken) return;
		patch([...path, name.trim()], field.of.kind === "flag" ? true : fresh(field.of));
		setName("");
	};
	return (
		<fieldset className={css.list} id={inputId(path)} tabIndex={-1}>
			<legend>{label}</legend>
			{field.hint && <p className={css.hint}>{field.hint}</p>}
			{own && <p className={css.wrong}>{own}</p>}
			{entries.map(([key, item]) => (
				<div key={key} className={css.entry}>
					<code>{key}</code>
					<FieldView field={field.of} path={[...path, key]} label={key} value={item} isRequired isBare />
					{!isFixed && <Remove what={key} run={() => patch([...path, key], undefined)} />}
				</div>
			))}
			{!isFixed && (
				<div className={css.item}>
					<TextInput
						size="xs"
						aria-label={`Name of a new entry of ${label.toLowerCase()}`}
						placeholder="name"
						value={name}
						{...(isTaken ? { error: "is there already" } : {})}
						onChange={(event) => setName(event.currentTarget.value)}
						onKeyDown={(event) => {
							if (event.key !== "Enter") return;
							event.preventDefault();
							add();
						}}
					/>
					<Button size="compact-xs" variant="default" disabled={name.trim() === "" || isTaken} onClick={add}>
						Add
					</Button>
				</div>
			)}
		</fieldset>
	);
}

function Remove({ what, run }: { what: string; run: () => void }): ReactNode {
	return (
		<ActionIcon variant="default" size="sm" aria-label={`Remove ${what}`} onClick={run}>
			×
		</ActionIcon>
	);
}
