/** Recorded bytes, all of them and unchanged, in lines as wide as the page, of which only those in sight are drawn. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { Copy } from "../../parts/command";
import css from "./detail.module.css";
import { sizeOf } from "./prompt";

const LINE_PX = 18;
/** Width of a character of the code font at 12 px, and the space around. */
const CHARACTER_PX = 7.3;
const PADDING_PX = 16;
const COLUMNS_MIN = 24;

export function Raw({ name, text }: { name: string; text: string }): ReactNode {
	const box = useRef<HTMLDivElement>(null);
	const [columns, setColumns] = useState(COLUMNS_MIN);
	useEffect(() => {
		const element = box.current;
		if (!element) return;
		const measure = new ResizeObserver(([entry]) => {
			const width = (entry?.contentRect.width ?? 0) - PADDING_PX;
			setColumns(Math.max(COLUMNS_MIN, Math.floor(width / CHARACTER_PX)));
		});
		measure.observe(element);
		return () => measure.disconnect();
	}, []);
	const lines = useVirtualizer({
		count: Math.ceil(text.length / columns),
		getScrollElement: () => box.current,
		estimateSize: () => LINE_PX,
		overscan: 10,
	});
	const bytes = useMemo(() => new TextEncoder().encode(text).length, [text]);
	return (
		<section className={css.raw} aria-label={`${name}, recorded`}>
			<h3 className={css.subtitle}>
				{name} <span className={css.dim}>{sizeOf(bytes)}</span> <Copy text={text} what={`${name}, as recorded`} />
			</h3>
			{/* biome-ignore lint/a11y/noNoninteractiveTabindex: a box that scrolls is reached by keyboard. */}
			<div ref={box} className={css.bytes} tabIndex={0} role="group" aria-label={`${name} in lines`}>
				<div style={{ height: lines.getTotalSize(), position: "relative" }}>
					{lines.getVirtualItems().map((line) => (
						<code key={line.key} className={css.line} style={{ transform: `translateY(${line.start}px)` }}>
							{text.slice(line.index * columns, (line.index + 1) * columns)}
						</code>
					))}
				</div>
			</div>
		</section>
	);
}
