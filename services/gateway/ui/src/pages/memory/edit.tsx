/** Changing a memory: only as it was read, so that nobody's change is lost; where it was changed meanwhile, both are shown. */
import { NumberInput, Textarea, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import { withDefaults } from "../../api/defaults";
import { Failure } from "../../api/problem";
import { Deed, STAY } from "../../parts/deed";
import css from "./memory.module.css";
import { type Memory, tagOf, tagsOf } from "./score";

export function EditMemory({ tenant, memory }: { tenant: string; memory: Memory }): ReactNode {
	const queries = useQueryClient();
	const [base, setBase] = useState(memory);
	const [theirs, setTheirs] = useState<Memory>();
	const [content, setContent] = useState(memory.content);
	const [tags, setTags] = useState(memory.tags.join(", "));
	const [importance, setImportance] = useState<number | string>(memory.importance);
	const path = { id: memory.id };
	const save = async () => {
		const header = { "If-Match": tagOf(base.version ?? 1) };
		const change = { content, tags: tagsOf(tags), importance: Number(importance) };
		const body = withDefaults<Schema["MemoryChange"]>(change);
		try {
			await ask(client.PATCH("/api/v1/memories/{id}", { params: { path, header }, body }));
		} catch (error) {
			if (error instanceof Failure && error.problem.status === 412) {
				const now = await ask(client.GET("/api/v1/memories/{id}", { params: { path } }));
				setTheirs(now);
				setBase(now);
				return STAY;
			}
			throw error;
		}
		await queries.invalidateQueries({ queryKey: [tenant, "memories"] });
		return undefined;
	};
	// A push may bring a newer one while the dialog is open: what is typed stays, and saving says so.
	const begin = () => {
		setBase(memory);
		setTheirs(undefined);
		setContent(memory.content);
		setTags(memory.tags.join(", "));
		setImportance(memory.importance);
	};
	const isSame = content === base.content && tags === base.tags.join(", ") && Number(importance) === base.importance;
	return (
		<Deed
			label="Edit"
			title="Edit the memory"
			least="operator"
			yes={theirs ? "Replace theirs by mine" : "Save"}
			barred={content.trim() === "" ? "a memory says something" : isSame ? "nothing is changed" : undefined}
			onOpen={begin}
			run={save}
		>
			{theirs && (
				<div role="alert" className={css.theirs}>
					It was changed meanwhile, to version {theirs.version}:<p className={css.whole}>{theirs.content}</p>
					<span className={css.dim}>
						importance {theirs.importance.toFixed(2)},{" "}
						{theirs.tags.length === 0 ? "no tags" : `tags ${theirs.tags.join(", ")}`}
					</span>
				</div>
			)}
			<Textarea
				label={theirs ? "Mine" : "What is remembered"}
				autosize
				minRows={3}
				maxRows={16}
				maxLength={32 * 1024}
				value={content}
				onChange={(event) => setContent(event.currentTarget.value)}
				data-autofocus
			/>
			<TextInput
				label="Tags"
				description="By commas"
				value={tags}
				onChange={(event) => setTags(event.currentTarget.value)}
			/>
			<NumberInput
				label="Importance"
				description="0 to 1"
				min={0}
				max={1}
				step={0.1}
				value={importance}
				onChange={setImportance}
			/>
		</Deed>
	);
}
