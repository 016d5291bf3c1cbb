/** One document: what is known of it, its text as citations point into it, and the pieces it was cut into. */
import { Link } from "@tanstack/react-router";
import { type ReactNode, useEffect, useMemo, useRef } from "react";
import { Time } from "../../app/time";
import { Pane } from "../../parts/pane";
import { Facts, Section } from "../../parts/section";
import { useText } from "./data";
import { bytes, type Document, Embedded } from "./knowledge";
import css from "./memory.module.css";
import { cut, type Slice } from "./slices";

/** Characters that are shown; the rest of a large document is read by the command line. */
const SHOWN_MAX = 200_000;

export function OpenDocument({
	tenant,
	id,
	mark,
}: {
	tenant: string;
	id: string;
	mark: string | undefined;
}): ReactNode {
	const text = useText(tenant, id);
	const close = (
		<Link to="." search={({ document: _, mark: __, ...rest }) => rest} resetScroll={false}>
			close
		</Link>
	);
	return (
		<div className={css.open}>
			<Section title="Document, open" aside={close}>
				<Pane query={text} rows={10}>
					{(read) => (
						<>
							<About document={read.document} />
							<Text text={read.text} slices={cut(read.text, read.chunks, SHOWN_MAX)} mark={mark} />
						</>
					)}
				</Pane>
			</Section>
		</div>
	);
}

function About({ document }: { document: Document }): ReactNode {
	return (
		<Facts
			of={[
				["Name", document.name],
				["Base", document.base],
				["Id", <code key="id">{document.id}</code>],
				["Version", document.version],
				["Type", document.media_type],
				["From", document.url],
				["Size", bytes(document.bytes)],
				["Pieces", <Embedded key="pieces" document={document} />],
				["Kept from before", document.version > 1 && `${document.kept} pieces as they were`],
				["SHA-256", <code key="sha">{document.sha256}</code>],
				["Added", <Time key="added" at={document.created_at} />],
				["Changed", <Time key="changed" at={document.updated_at} />],
			]}
		/>
	);
}

function Text({ text, slices, mark }: { text: string; slices: readonly Slice[]; mark: string | undefined }): ReactNode {
	const marked = useRef<HTMLElement>(null);
	const start = useMemo(() => (mark === undefined ? undefined : Number(mark)), [mark]);
	useEffect(() => {
		if (start !== undefined) marked.current?.scrollIntoView({ block: "center" });
	}, [start]);
	return (
		<>
			{/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls by the keyboard. */}
			<div className={css.text} role="region" aria-label="Text of the document" tabIndex={0}>
				{slices.map((slice) =>
					slice.start === start && slice.piece !== undefined ? (
						<mark key={slice.start} ref={marked} className={css.marked}>
							{slice.text}
						</mark>
					) : (
						<span key={slice.start} className={slice.piece === undefined ? undefined : css.piece} title={slice.title}>
							{slice.text}
						</span>
					),
				)}
			</div>
			{text.length > SHOWN_MAX && <p className={css.dim}>The first {SHOWN_MAX.toLocaleString("en")} characters.</p>}
		</>
	);
}
