/**
 * JSON as a tree, of which only the rows in sight are in the document: fold, find, copy value, path or all.
 * Give `text` where the body is at hand as it was written: numbers over 2^53 then show as they are.
 */
import { TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { isPartMissing } from "../app/later";
import { Copy } from "./command";
import { DEPTH, KIND, Kind } from "./json-index";
import { isLarge, readBeside, readNow } from "./json-read";
import { countOf, field, find, isContainer, type Json, keyOf, opensItself, parentOf, pathOf, visible, written } from "./json-rows";
import css from "./json-tree.module.css";

const ROW_PX = 20;
const HEIGHT_MAX_PX = 480;
/** Characters of a value that a row shows; the rest is there to copy, and opened below. */
const SHOWN_MAX = 400;
/** Rows above which finding is offered. */
const FIND_FROM = 12;

type Given = { readonly text: string } | { readonly value: unknown };
type JsonTreeProps = Given & {
	/** What it is: "Arguments of lookup". */
	readonly label: string;
	/** Pixels; the tree is as high as its rows up to this. */
	readonly heightMax?: number;
};

export function JsonTree(props: JsonTreeProps): ReactNode {
	const text = "text" in props ? props.text : undefined;
	const value = "value" in props ? props.value : undefined;
	const all = useMemo(() => text ?? JSON.stringify(value ?? null), [text, value]);
	const now = useMemo(() => (isLarge(all) ? undefined : attempt(all)), [all]);
	const [later, setLater] = useState<{ of: string; read: Json | Error }>();
	useEffect(() => {
		if (now !== undefined) return;
		let isWanted = true;
		readBeside(all).then(
			(read) => isWanted && setLater({ of: all, read }),
			(error: unknown) => isWanted && setLater({ of: all, read: error instanceof Error ? error : new Error(String(error)) }),
		);
		return () => {
			isWanted = false;
		};
	}, [all, now]);
	const read = now ?? (later?.of === all ? later.read : undefined);
	if (read === undefined) return <div role="status">Reading {all.length.toLocaleString("en")} characters</div>;
	if (isPartMissing(read)) throw read;
	// What is no JSON is shown as the text it is.
	if (read instanceof Error) return <pre className={css.plain}>{all}</pre>;
	return <Tree key={all} json={read} label={props.label} heightMax={props.heightMax ?? HEIGHT_MAX_PX} />;
}

function attempt(text: string): Json | Error {
	try {
		return readNow(text);
	} catch (error) {
		return error instanceof Error ? error : new Error(String(error));
	}
}

function Tree({ json, label, heightMax }: { json: Json; label: string; heightMax: number }): ReactNode {
	const [chosen, setChosen] = useState<ReadonlyMap<number, boolean>>(new Map());
	const [current, setCurrent] = useState(0);
	const [words, setWords] = useState("");
	const box = useRef<HTMLDivElement>(null);
	const rows = useMemo(() => visible(json, chosen), [json, chosen]);
	const list = useVirtualizer({
		count: rows.length,
		getScrollElement: () => box.current,
		estimateSize: () => ROW_PX,
		overscan: 8,
	});
	const isOpen = (node: number) => chosen.get(node) ?? opensItself(json, node);
	const fold = (node: number, open: boolean) => setChosen(new Map(chosen).set(node, open));
	const go = (place: number) => {
		const node = rows[Math.max(0, Math.min(rows.length - 1, place))];
		if (node === undefined) return;
		setCurrent(node);
		list.scrollToIndex(rows.indexOf(node), { align: "auto" });
	};
	const seek = () => {
		const found = find(json, words, current);
		if (found < 0) return;
		const open = new Map(chosen);
		for (let holder = parentOf(json, found); holder >= 0; holder = parentOf(json, holder)) open.set(holder, true);
		setChosen(open);
		setCurrent(found);
		const place = visible(json, open).indexOf(found);
		requestAnimationFrame(() => list.scrollToIndex(place, { align: "center" }));
	};
	const pressed = (event: KeyboardEvent) => {
		const place = rows.indexOf(current);
		const holds = isContainer(json, current);
		if (event.key === "ArrowDown") go(place + 1);
		else if (event.key === "ArrowUp") go(place - 1);
		else if (event.key === "Home") go(0);
		else if (event.key === "End") go(rows.length - 1);
		else if (event.key === "ArrowRight" && holds && !isOpen(current)) fold(current, true);
		else if (event.key === "ArrowRight") go(place + 1);
		else if (event.key === "ArrowLeft" && holds && isOpen(current)) fold(current, false);
		else if (event.key === "ArrowLeft") go(rows.indexOf(parentOf(json, current)));
		else return;
		event.preventDefault();
	};
	return (
		<div className={css.tree}>
			<div className={css.bar}>
				{rows.length > FIND_FROM && (
					<TextInput
						size="xs"
						aria-label={`Find in: ${label}`}
						placeholder="find"
						value={words}
						onChange={(event) => setWords(event.currentTarget.value)}
						onKeyDown={(event) => event.key === "Enter" && seek()}
					/>
				)}
				<Copy text={json.text} what={`all of: ${label}`} says="copy JSON" />
				<Copy text={written(json, current)} what="the marked value" says="value" />
				<Copy text={pathOf(json, current)} what="the marked path" says="path" />
			</div>
			<div
				ref={box}
				role="tree"
				aria-label={label}
				aria-activedescendant={`json-${current}`}
				tabIndex={0}
				className={css.rows}
				style={{ height: Math.min(heightMax, rows.length * ROW_PX + 2) }}
				onKeyDown={pressed}
			>
				<div style={{ height: list.getTotalSize(), position: "relative" }} role="presentation">
					{list.getVirtualItems().map((row) => {
						const node = rows[row.index] ?? 0;
						const holds = isContainer(json, node);
						return (
							// biome-ignore lint/a11y/useKeyWithClickEvents: the tree has the keys.
							<div
								key={node}
								id={`json-${node}`}
								role="treeitem"
								aria-level={field(json, node, DEPTH) + 1}
								aria-selected={node === current}
								{...(holds ? { "aria-expanded": isOpen(node) } : {})}
								className={css.row}
								style={{
									transform: `translateY(${row.start}px)`,
									paddingLeft: `${field(json, node, DEPTH) + 0.25}rem`,
								}}
								onClick={() => {
									setCurrent(node);
									if (holds) fold(node, !isOpen(node));
								}}
							>
								<Row json={json} node={node} isOpen={holds && isOpen(node)} />
							</div>
						);
					})}
				</div>
			</div>
			<Whole json={json} node={current} />
		</div>
	);
}

function Row({ json, node, isOpen }: { json: Json; node: number; isOpen: boolean }): ReactNode {
	const key = keyOf(json, node);
	const kind = field(json, node, KIND);
	const name = key === undefined ? null : <span className={css.key}>{key}: </span>;
	if (kind <= Kind.array) {
		const [left, right] = kind === Kind.object ? "{}" : "[]";
		return (
			<>
				<span aria-hidden="true">{isOpen ? "▾ " : "▸ "}</span>
				{name}
				<span className={css.dim}>
					{left}
					{countOf(json, node).toLocaleString("en")}
					{right}
				</span>
			</>
		);
	}
	const value = written(json, node);
	return (
		<>
			{name}
			<span className={kind === Kind.text ? css.text : css.number}>
				{value.length > SHOWN_MAX ? `${value.slice(0, SHOWN_MAX)}… (${value.length.toLocaleString("en")})` : value}
			</span>
		</>
	);
}

/** A text with lines, or too long for its row, is shown whole below the tree while it is marked. */
function Whole({ json, node }: { json: Json; node: number }): ReactNode {
	if (field(json, node, KIND) !== Kind.text) return null;
	const value = written(json, node);
	if (value.length < 80 && !value.includes("\\n")) return null;
	return <pre className={css.plain}>{String(JSON.parse(value)).slice(0, 20_000)}</pre>;
}
