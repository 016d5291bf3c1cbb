/** Documents that agents can be given: by base, searched with citations that lead to the place, added and deleted. */
import { Select, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { ask, client, type Schema } from "../../api/client";
import { Act } from "../../parts/act";
import { Empty } from "../../parts/empty";
import { type Column, Grid } from "../../parts/grid";
import { useFilterKey } from "../../parts/filter-key";
import { Pane } from "../../parts/pane";
import { Section } from "../../parts/section";
import { counted } from "../nodes/state";
import { AddDocument } from "./add";
import { useDocuments, usePieces } from "./data";
import { OpenDocument } from "./document";
import { Parts, useChange } from "./memories";
import css from "./memory.module.css";
import type { MemorySearch } from "./search";

export type Document = Schema["Document"];
type Piece = Schema["KnowledgeHit"];

export function Knowledge({ tenant, search }: { tenant: string; search: MemorySearch }): ReactNode {
	const pages = useDocuments(tenant, undefined);
	const all = useMemo(() => pages.data?.pages.flatMap((page) => page.items) ?? [], [pages.data]);
	const bases = useMemo(() => [...new Set(all.map((document) => document.base))].sort(), [all]);
	const shown = search.base === undefined ? all : all.filter((document) => document.base === search.base);
	const searched = search.base === undefined ? bases : [search.base];
	return (
		<>
			<Filters tenant={tenant} search={search} bases={bases} />
			<div className={search.document === undefined ? undefined : css.split}>
				<div>
					{search.q !== undefined && <Pieces tenant={tenant} bases={searched} q={search.q} />}
					<Section title={`${counted(shown.length, "document")}${pages.hasNextPage ? " and more" : ""}`}>
						<Pane
							query={pages}
							rows={6}
							isEmpty={() => shown.length === 0}
							empty={<Empty says="No document yet. This adds one:" command="mesh knowledge add handbook handbook.md" />}
						>
							{() => (
								<Grid
									hasKeys
									label="Documents"
									columns={columns(tenant)}
									items={shown}
									id={(document) => document.id}
									selected={search.document}
									more={() => pages.hasNextPage && !pages.isFetching && void pages.fetchNextPage()}
								/>
							)}
						</Pane>
					</Section>
				</div>
				{search.document !== undefined && <OpenDocument tenant={tenant} id={search.document} mark={search.mark} />}
			</div>
		</>
	);
}

function Filters({
	tenant,
	search,
	bases,
}: {
	tenant: string;
	search: MemorySearch;
	bases: readonly string[];
}): ReactNode {
	const change = useChange();
	const [q, setQ] = useState(search.q ?? "");
	const field = useFilterKey();
	return (
		<form
			role="search"
			className={css.filters}
			onSubmit={(event) => {
				event.preventDefault();
				change({ q: q.trim() || undefined }, false);
			}}
		>
			<TextInput
				type="search"
				label="Question"
				placeholder="how many days of leave?"
				ref={field}
				className={css.question}
				value={q}
				onChange={(event) => setQ(event.currentTarget.value)}
			/>
			<Select
				label="Base"
				placeholder="all"
				data={[...bases]}
				value={search.base ?? null}
				onChange={(value) => change({ base: value ?? undefined })}
				clearable
				clearButtonProps={{ "aria-label": "All bases" }}
			/>
			<button type="submit" className={css.button}>
				Search
			</button>
			{search.q !== undefined && (
				<Link to="." search={({ q: _, ...rest }) => rest} onClick={() => setQ("")}>
					clear
				</Link>
			)}
			<span className={css.acts}>
				<AddDocument tenant={tenant} bases={bases} base={search.base} />
			</span>
		</form>
	);
}

function Pieces({ tenant, bases, q }: { tenant: string; bases: readonly string[]; q: string }): ReactNode {
	const change = useChange();
	const pieces = usePieces(tenant, bases, q);
	if (bases.length === 0) return null;
	return (
		<Section title={`Nearest to “${q}”`}>
			<Pane
				query={pieces}
				rows={4}
				isEmpty={(data) => data.items.length === 0}
				empty={<Empty says="No piece of a document is near to it." clear={() => change({ q: undefined })} />}
			>
				{(data) => (
					<>
						{data.degraded && <p className={css.trouble}>△ only words were searched: {data.degraded}</p>}
						<Grid
							label="Pieces of documents, best first"
							columns={PIECES}
							items={data.items}
							id={(piece) => `${piece.citation.document}-${piece.citation.start}`}
						/>
					</>
				)}
			</Pane>
		</Section>
	);
}

const PIECES: readonly Column<Piece>[] = [
	{
		key: "score",
		head: "Score",
		width: "4rem",
		narrow: { width: "4rem" },
		isNumber: true,
		cell: (piece) => <strong>{piece.score.toFixed(3)}</strong>,
	},
	{
		key: "parts",
		head: "Made of",
		width: "minmax(10rem, 1fr)",
		narrow: { width: "minmax(0, 1fr)" },
		cell: (piece) => <Parts hit={piece} />,
	},
	{
		key: "text",
		head: "Piece, and where it stands",
		width: "minmax(12rem, 3fr)",
		cell: ({ citation, text }) => (
			<>
				<Link
					to="."
					search={(old) => ({ ...old, document: citation.document, mark: String(citation.start) })}
					resetScroll={false}
				>
					{[citation.base, citation.name, ...citation.headings].join(" › ")}
				</Link>{" "}
				<span className={css.dim}>
					version {citation.version}, characters {citation.start}–{citation.end}
				</span>
				<p className={css.whole}>{text}</p>
			</>
		),
	},
];

function columns(tenant: string): Column<Document>[] {
	return [
		{
			key: "name",
			head: "Document",
			width: "minmax(10rem, 2fr)",
			cell: (document) => (
				<Link to="." search={({ mark: _, ...old }) => ({ ...old, document: document.id })} resetScroll={false}>
					{document.name}
				</Link>
			),
		},
		{
			key: "base",
			head: "Base",
			width: "minmax(6rem, 1fr)",
			narrow: { width: "minmax(0, 1fr)" },
			cell: (document) => document.base,
		},
		{
			key: "version",
			head: "Version",
			width: "5rem",
			narrow: { width: "4rem" },
			isNumber: true,
			cell: (document) => document.version,
		},
		{
			key: "size",
			head: "Size",
			width: "6rem",
			narrow: "hide",
			isNumber: true,
			cell: (document) => bytes(document.bytes),
		},
		{
			key: "state",
			head: "Embedding",
			width: "minmax(9rem, 1fr)",
			narrow: { width: "9rem" },
			cell: (document) => <Embedded document={document} />,
		},
		{
			key: "acts",
			head: "Acts",
			width: "5rem",
			cell: (document) => <DeleteDocument tenant={tenant} document={document} />,
		},
	];
}

export function bytes(count: number): string {
	if (count < 1_024) return `${count} B`;
	if (count < 1_024 * 1_024) return `${(count / 1_024).toFixed(1)} KiB`;
	return `${(count / 1_024 / 1_024).toFixed(1)} MiB`;
}

/** How far its pieces have a vector. */
export function Embedded({ document }: { document: Document }): ReactNode {
	if (document.error) return <span className={css.trouble}>△ {document.error}</span>;
	if (document.state === "ready") return `${counted(document.chunks, "piece")}, ready`;
	return (
		<>
			<progress max={document.chunks} value={document.embedded} aria-label={`Embedding ${document.name}`} />{" "}
			{document.embedded} of {counted(document.chunks, "piece")}
		</>
	);
}

export function DeleteDocument({ tenant, document }: { tenant: string; document: Document }): ReactNode {
	const queries = useQueryClient();
	return (
		<Act
			label="Delete"
			yes="Delete 1 document"
			least="operator"
			tone="danger"
			command={`mesh knowledge delete ${document.id}`}
			confirm={
				<p>
					{document.name} goes with{" "}
					{document.version === 1 ? "its one version" : `all its ${document.version} versions`} and{" "}
					{counted(document.chunks, "piece")}. Agents that read base {document.base} find it no more.
				</p>
			}
			run={() => ask(client.DELETE("/api/v1/knowledge/documents/{id}", { params: { path: { id: document.id } } }))}
			onDone={() => void queries.invalidateQueries({ queryKey: [tenant, "knowledge"] })}
		/>
	);
}
