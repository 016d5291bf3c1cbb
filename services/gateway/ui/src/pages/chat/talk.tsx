/** A talk: items anchored at its end, of which only those in sight are in the document, and the field to say more. */
import { Button, Textarea } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useCallback, useEffect, useLayoutEffect, useRef, useState } from "react";
import { Failure } from "../../api/problem";
import type { Role } from "../../app/session";
import { useBarred } from "../../parts/act";
import css from "./chat.module.css";

export interface Item {
	readonly key: string;
	readonly view: ReactNode;
	/** Said by who looks: a new one brings the end into sight. */
	readonly isOwn?: boolean;
}

interface TalkProps {
	readonly label: string;
	/** Oldest first. */
	readonly items: readonly Item[];
	/** Called when the oldest are in sight. */
	readonly older?: (() => void) | undefined;
	readonly empty: ReactNode;
	readonly children: ReactNode;
}

const ITEM_PX = 96;
/** Nearer to the end than this is at the end. */
const END_PX = 48;
/** Older ones are read when the first of these is in sight. */
const OLDER_BELOW = 5;

export function Talk({ label, items, older, empty, children }: TalkProps): ReactNode {
	return (
		<div className={css.talk}>
			{items.length > 0 ? (
				<Items label={label} items={items} older={older} />
			) : (
				<div className={css.scroll}>
					<div className={css.empty}>{empty}</div>
				</div>
			)}
			{children}
		</div>
	);
}

/** Mounted with its first items, so that it begins at their end. */
function Items({ label, items, older }: Pick<TalkProps, "label" | "items" | "older">): ReactNode {
	const box = useRef<HTMLDivElement>(null);
	const [isAway, setAway] = useState(false);
	const keyOf = useCallback((index: number) => items[index]?.key ?? index, [items]);
	const rows = useVirtualizer({
		count: items.length,
		getScrollElement: () => box.current,
		estimateSize: () => ITEM_PX,
		getItemKey: keyOf,
		overscan: 6,
		initialOffset: items.length * ITEM_PX,
		anchorTo: "end",
		followOnAppend: true,
		scrollEndThreshold: END_PX,
	});
	const shown = rows.getVirtualItems();
	const first = shown[0]?.index;
	const latest = useRef(older);
	useEffect(() => {
		latest.current = older;
	});
	useEffect(() => {
		if (first !== undefined && first < OLDER_BELOW) latest.current?.();
	}, [first]);
	const own = items.findLast((item) => item.isOwn)?.key;
	// biome-ignore lint/correctness/useExhaustiveDependencies: at the first items, and at each that is one's own.
	useEffect(() => {
		rows.scrollToIndex(items.length - 1, { align: "end" });
	}, [own]);
	// What grows at the end stays in sight for who is there.
	const height = rows.getTotalSize();
	useLayoutEffect(() => {
		if (box.current && !isAway && height > 0) box.current.scrollTop = box.current.scrollHeight;
	}, [height, isAway]);
	return (
		<>
			<div
				ref={box}
				className={css.scroll}
				role="log"
				aria-label={label}
				aria-live="off"
				tabIndex={0}
				onScroll={(event) => {
					const { scrollHeight, scrollTop, clientHeight } = event.currentTarget;
					setAway(scrollHeight - scrollTop - clientHeight > END_PX);
				}}
			>
				<div className={css.items} style={{ height }}>
					{shown.map((row) => (
						<div
							key={row.key}
							ref={rows.measureElement}
							data-index={row.index}
							className={css.place}
							style={{ transform: `translateY(${row.start}px)` }}
						>
							{items[row.index]?.view}
						</div>
					))}
				</div>
			</div>
			{isAway && (
				<button type="button" className={css.toEnd} onClick={() => rows.scrollToIndex(items.length - 1, { align: "end" })}>
					to the end ↓
				</button>
			)}
		</>
	);
}

interface ComposerProps {
	readonly label: string;
	readonly least: Role;
	readonly barred?: string | undefined;
	/** Where the talk is; another one has a text of its own. */
	readonly place: string;
	readonly extra?: ReactNode;
	/** Throws a `Failure`: then the text stays to be sent again. */
	send(text: string): Promise<unknown>;
}

const unsent = new Map<string, string>();

/** Enter sends, Shift Enter makes a line. */
export function Composer({ label, least, barred, place, extra, send }: ComposerProps): ReactNode {
	const why = useBarred(least, barred);
	const [text, setText] = useState(() => unsent.get(place) ?? "");
	const [failure, setFailure] = useState<unknown>();
	const [isBusy, setBusy] = useState(false);
	const field = useRef<HTMLTextAreaElement>(null);
	const change = (next: string) => {
		unsent.set(place, next);
		setText(next);
	};
	const go = async () => {
		const said = text.trim();
		if (said === "" || isBusy || why !== undefined) return;
		setBusy(true);
		setFailure(undefined);
		change("");
		try {
			await send(said);
		} catch (error) {
			setFailure(error);
			change(said);
		}
		setBusy(false);
		field.current?.focus();
	};
	return (
		<form
			className={css.composer}
			onSubmit={(event) => {
				event.preventDefault();
				void go();
			}}
		>
			{failure !== undefined && (
				<p role="alert" className={css.failed}>
					{failure instanceof Failure ? failure.message : String(failure)}
					{failure instanceof Failure && failure.problem.next && ` Next: ${failure.problem.next}`}
				</p>
			)}
			<Textarea
				ref={field}
				aria-label={label}
				placeholder={why ?? "Enter sends, Shift Enter makes a line"}
				rows={Math.min(8, Math.max(2, text.split("\n").length))}
				value={text}
				onChange={(event) => change(event.currentTarget.value)}
				onKeyDown={(event) => {
					if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
					event.preventDefault();
					void go();
				}}
			/>
			<span className={css.foot}>
				{extra}
				<Button type="submit" size="compact-md" loading={isBusy} disabled={why !== undefined || text.trim() === ""} title={why}>
					Send
				</Button>
			</span>
		</form>
	);
}

export function Said({ who, text, at }: { who: string; text: string; at?: ReactNode }): ReactNode {
	return (
		<article className={css.said} aria-label={`${who} said`}>
			<header className={css.head}>
				<strong>{who}</strong>
				<span className={css.dim}>{at}</span>
			</header>
			<p className={css.words}>{text}</p>
		</article>
	);
}
