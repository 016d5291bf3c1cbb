/** Text of a model, drawn: nothing in it becomes an element, an image or an address of its own. */
import { memo, type ReactNode, useMemo } from "react";
import { Copy } from "../../parts/command";
import css from "./chat.module.css";
import { type Prose, prose, type Span } from "./prose";

export const ProseView = memo(function ProseView({ text }: { text: string }): ReactNode {
	const blocks = useMemo(() => prose(text), [text]);
	// Blocks have no names; text only grows at its end, so places are their identity.
	return (
		<div className={css.prose}>
			{blocks.map((block, at) => (
				<BlockView key={`${at}:${block.kind}`} block={block} />
			))}
		</div>
	);
});

function BlockView({ block }: { block: Prose }): ReactNode {
	switch (block.kind) {
		case "code":
			return (
				<div className={css.code}>
					<div className={css.codeHead}>
						<span>{block.language || "code"}</span>
						<Copy text={block.text} what="the code" />
					</div>
					<pre tabIndex={0}>{block.text}</pre>
				</div>
			);
		case "list": {
			const items = block.items.map((item, at) => (
				<li key={`${at}:${item.length}`}>
					<Spans of={item} />
				</li>
			));
			return block.isOrdered ? <ol>{items}</ol> : <ul>{items}</ul>;
		}
		case "heading":
			return (
				<p className={css.heading}>
					<Spans of={block.spans} />
				</p>
			);
		case "text":
			return (
				<p>
					<Spans of={block.spans} />
				</p>
			);
	}
}

function Spans({ of }: { of: readonly Span[] }): ReactNode {
	return of.map((span, at) => {
		const key = `${at}:${span.kind}`;
		switch (span.kind) {
			case "code":
				return <code key={key}>{span.text}</code>;
			case "strong":
				return <strong key={key}>{span.text}</strong>;
			case "emphasis":
				return <em key={key}>{span.text}</em>;
			case "plain":
				return span.text;
		}
	});
}
