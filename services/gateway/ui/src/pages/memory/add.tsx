/** Adding a document: text, a URL or a file, whose way to the mesh is shown. One of the same name gets a new version. */
import { Autocomplete, FileInput, Progress, SegmentedControl, Textarea, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import { withDefaults } from "../../api/defaults";
import { Deed } from "../../parts/deed";
import type { Document } from "./knowledge";
import { quoted } from "./score";
import { mediaType, upload } from "./upload";

type Kind = "text" | "url" | "file";

export function AddDocument({
	tenant,
	bases,
	base: given,
}: {
	tenant: string;
	bases: readonly string[];
	base: string | undefined;
}): ReactNode {
	const queries = useQueryClient();
	const [base, setBase] = useState(given ?? bases[0] ?? "");
	const [kind, setKind] = useState<Kind>("text");
	const [name, setName] = useState("");
	const [text, setText] = useState("");
	const [url, setUrl] = useState("");
	const [file, setFile] = useState<File | null>(null);
	const [sent, setSent] = useState<number>();
	const [added, setAdded] = useState<Document>();
	const into = base || given || bases[0] || "";
	const barred = missing(kind, { base: into, name, text, url, file });
	const add = async () => {
		const path = { base: into };
		if (kind === "file" && file) {
			setSent(0);
			const at = `/api/v1/knowledge/${encodeURIComponent(into)}/documents?name=${encodeURIComponent(name || file.name)}`;
			setAdded(await upload(at, file, mediaType(file.name, file.type), setSent).finally(() => setSent(undefined)));
		} else {
			const body = withDefaults<Schema["AddDocument"]>(
				kind === "url" ? { url, ...(name ? { name } : {}) } : { text, name },
			);
			setAdded((await ask(client.POST("/api/v1/knowledge/{base}/documents", { params: { path }, body }))) as Document);
		}
		await queries.invalidateQueries({ queryKey: [tenant, "knowledge"] });
	};
	return (
		<Deed
			label="Add a document"
			least="operator"
			tone="primary"
			yes="Add"
			barred={barred}
			command={`mesh knowledge add ${quoted(into || "BASE")} ${quoted(kind === "url" ? url || "URL" : (file?.name ?? (name || "FILE")))}`}
			run={add}
			done={added && <Added document={added} />}
			onClose={() => setAdded(undefined)}
		>
			<Autocomplete
				label="Base"
				description="Letters, digits, - and _; a new one is made by its first document"
				data={[...bases]}
				value={into}
				onChange={setBase}
				withAsterisk
			/>
			<SegmentedControl
				aria-label="What is added"
				value={kind}
				onChange={(value) => setKind(value as Kind)}
				data={[
					{ value: "text", label: "Text" },
					{ value: "url", label: "URL" },
					{ value: "file", label: "File" },
				]}
			/>
			{kind === "file" && (
				<FileInput
					label="File"
					description="Plain text, Markdown, HTML or PDF"
					accept=".txt,.md,.markdown,.html,.htm,.pdf"
					value={file}
					onChange={setFile}
					clearable
					clearButtonProps={{ "aria-label": "No file" }}
					withAsterisk
				/>
			)}
			{kind === "url" && (
				<TextInput
					label="URL"
					description="Fetched once, now; private addresses are refused"
					type="url"
					value={url}
					onChange={(event) => setUrl(event.currentTarget.value)}
					withAsterisk
				/>
			)}
			<TextInput
				label="Name"
				description={
					kind === "text" ? "Its ending tells what it is, such as handbook.md" : "Empty: as it is called there"
				}
				value={name}
				onChange={(event) => setName(event.currentTarget.value)}
				withAsterisk={kind === "text"}
			/>
			{kind === "text" && (
				<Textarea
					label="Text"
					autosize
					minRows={6}
					maxRows={16}
					value={text}
					onChange={(event) => setText(event.currentTarget.value)}
					withAsterisk
				/>
			)}
			{sent !== undefined && (
				<div>
					<Progress value={sent * 100} aria-label="Uploaded" />
					{sent < 1 ? `${Math.round(sent * 100)} % sent` : "sent; it is being read"}
				</div>
			)}
		</Deed>
	);
}

function missing(
	kind: Kind,
	has: { base: string; name: string; text: string; url: string; file: File | null },
): string | undefined {
	if (!/^[A-Za-z0-9_-]{1,64}$/.test(has.base)) return "name a base: letters, digits, - and _";
	if (kind === "file") return has.file ? undefined : "choose a file";
	if (kind === "url") return URL.canParse(has.url) ? undefined : "give a URL";
	if (has.name.trim() === "") return "give it a name";
	return has.text.trim() === "" ? "give it a text" : undefined;
}

function Added({ document }: { document: Document }): ReactNode {
	const what = document.version === 1 ? "is added" : `is now version ${document.version}`;
	return (
		<p>
			<Link to="." search={(old) => ({ ...old, tab: "knowledge" as const, document: document.id })}>
				{document.name}
			</Link>{" "}
			{what}, in {document.chunks} pieces{document.version > 1 && `, of which ${document.kept} are as they were`}. It is
			found by its words at once, by its meaning when it is embedded.
		</p>
	);
}
