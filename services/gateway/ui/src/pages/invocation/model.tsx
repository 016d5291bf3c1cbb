/** A model step: what it wrote, and what it saw as messages. Everything in it is text: no HTML, no images, no links. */
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useLayoutEffect, useMemo, useRef, useState } from "react";
import { useKey } from "../../app/keys";
import { JsonTree } from "../../parts/json-tree";
import { Pane } from "../../parts/pane";
import { bodyOf } from "./data";
import css from "./detail.module.css";
import type { Piece } from "./diff";
import { type Asked, counted, type Message, type Seen, seen, sizeOf, textOf } from "./prompt";
import { at, members, parsed, slice, valueAt } from "./slices";
import type { Step } from "./steps";
import type { Streamed } from "./stream";

/** So near to its end a text is taken to be read at its end. */
const END_PX = 24;

/** Text of a model, as text. */
export function Said({ text }: { text: string }): ReactNode {
	return <pre className={css.said}>{text}</pre>;
}

/** What comes while it runs, the end in sight until somebody scrolls up; void tries struck. */
export function StreamedText({ streamed, isRead }: { streamed: Streamed | undefined; isRead: boolean }): ReactNode {
	const box = useRef<HTMLDivElement>(null);
	const [isHeld, setHeld] = useState(false);
	const text = isRead ? "" : (streamed?.text ?? "");
	const end = () => {
		if (box.current) box.current.scrollTop = box.current.scrollHeight;
	};
	// biome-ignore lint/correctness/useExhaustiveDependencies: with each piece of text.
	useLayoutEffect(() => {
		if (!isHeld) end();
	}, [text, isHeld]);
	useKey("l", "follow what comes", () => {
		setHeld(false);
		end();
		return false;
	});
	if (!streamed) return null;
	return (
		<>
			{streamed.voids.map((one, index) => (
				<div key={index.toString()} className={css.void}>
					<span className={css.dim}>try {one.attempt}, void</span>
					<pre className={css.said}>
						<s>{one.text}</s>
					</pre>
				</div>
			))}
			{text !== "" && (
				<>
					{streamed.voids.length > 0 && <span className={css.dim}>try {streamed.attempt}</span>}
					{/* biome-ignore lint/a11y/noNoninteractiveTabindex: a box that scrolls is reached by keyboard. */}
					<div
						ref={box}
						tabIndex={0}
						role="log"
						aria-label="What it writes"
						aria-live="off"
						data-streaming="true"
						className={css.streaming}
						onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) =>
							setHeld(scrollHeight - clientHeight - scrollTop > END_PX)
						}
					>
						<pre className={css.said}>{text}</pre>
					</div>
					{isHeld && (
						<p role="status" className={css.dim}>
							Not following: you scrolled up. <kbd>l</kbd> goes to the end.
						</p>
					)}
				</>
			)}
		</>
	);
}

interface Call {
	readonly name: string;
	/** As the model wrote them. */
	readonly written: string;
}

export function Model({ step, output, hasText }: { step: Step; output: string; hasText: boolean }): ReactNode {
	const { text, calls, reason } = useMemo(() => answerIn(output), [output]);
	if (output === "null") {
		if (hasText) return null;
		return <p className={css.dim}>{step.ended_at ? "It wrote nothing." : "It has not written yet."}</p>;
	}
	return (
		<>
			{text !== "" && <Said text={text} />}
			{calls.map((call, index) => (
				<CallOf key={index.toString()} call={call} />
			))}
			{text === "" && calls.length === 0 && <p className={css.dim}>It wrote nothing.</p>}
			{reason && reason !== "stop" && reason !== "tool_calls" && <p className={css.dim}>It ended by: {reason}</p>}
		</>
	);
}

function CallOf({ call }: { call: Call }): ReactNode {
	const isShort = call.written.length <= 80;
	return (
		<div className={css.call}>
			<span aria-hidden="true">→ </span>
			<span className="visually-hidden">calls </span>
			<strong>{call.name}</strong> {isShort && <code>{call.written}</code>}
			{!isShort && <JsonTree label={`Arguments of ${call.name}`} text={call.written} />}
		</div>
	);
}

function answerIn(output: string): { text: string; calls: Call[]; reason: string | undefined } {
	const read = (name: string) => {
		const range = at(output, [name]);
		return range === undefined ? undefined : parsed(output, range);
	};
	const whole = valueAt(output, 0);
	const text = output.charAt(whole.start) === '"' ? parsed(output, whole) : read("text");
	const list = at(output, ["tool_calls"]);
	const calls = (list ? members(output, list) : []).map(({ value }) => callIn(slice(output, value)));
	const reason = read("finish_reason");
	return {
		text: typeof text === "string" ? text : "",
		calls,
		reason: typeof reason === "string" ? reason : undefined,
	};
}

/** A call in the shape of the chat API of OpenAI: its arguments are JSON in a text, which models may get wrong. */
export function callIn(call: string): Call {
	const name = at(call, ["function", "name"]);
	const range = at(call, ["function", "arguments"]);
	const written = range === undefined ? call : slice(call, range);
	const isText = range !== undefined && written.startsWith('"');
	return {
		name: name === undefined ? "a tool" : String(parsed(call, name)),
		written: isText ? (JSON.parse(written) as string) : written,
	};
}

export function Saw({ tenant, owner, input }: { tenant: string; owner: string; input: string }): ReactNode {
	const asked = useMemo(() => askedIn(input), [input]);
	const base = asked.prompt?.base ?? undefined;
	const before = useQuery({ ...bodyOf(tenant, owner, base), enabled: base !== undefined });
	if (base !== undefined) {
		return (
			<Pane query={before} rows={4}>
				{(body) => <Messages asked={asked} input={input} base={base} before={messagesIn(body?.input)} />}
			</Pane>
		);
	}
	return <Messages asked={asked} input={input} base={undefined} before={[]} />;
}

function askedIn(input: string): Asked {
	const part = (name: string) => {
		const range = at(input, [name]);
		return range === undefined ? undefined : parsed(input, range);
	};
	const omitted = part("messages_omitted_bytes");
	const prompt = part("prompt") as Asked["prompt"];
	return {
		...(prompt ? { prompt } : {}),
		messages: (part("messages") ?? prompt?.new ?? []) as readonly Message[],
		...(typeof omitted === "number" ? { messages_omitted_bytes: omitted } : {}),
	};
}

function messagesIn(input: string | undefined): readonly Message[] {
	const range = input === undefined ? undefined : at(input, ["messages"]);
	return range === undefined || input === undefined ? [] : (parsed(input, range) as readonly Message[]);
}

interface MessagesProps {
	readonly asked: Asked;
	readonly input: string;
	readonly base: number | undefined;
	readonly before: readonly Message[];
}

function Messages({ asked, input, base, before }: MessagesProps): ReactNode {
	const isWhole = asked.messages_omitted_bytes === undefined;
	const parts = useMemo(
		() => (isWhole ? seen(asked, before) : seen({ messages: asked.messages ?? [] }, [])),
		[asked, before, isWhole],
	);
	return (
		<>
			<p className={css.dim}>
				{counted(parts)}
				{base !== undefined && ` against step ${base}`}
				{!isWhole && `; ${asked.prompt?.keep ?? 0} kept are left out here (${sizeOf(asked.messages_omitted_bytes ?? 0)})`}
			</p>
			<ol className={css.messages}>
				{parts.map((part, index) => (
					<li key={index.toString()} data-kind={part.kind}>
						<SeenPart part={part} />
					</li>
				))}
			</ol>
			<Offered input={input} />
		</>
	);
}

function SeenPart({ part }: { part: Seen }): ReactNode {
	switch (part.kind) {
		case "kept":
			return (
				<details>
					<summary>{part.messages.length} kept</summary>
					{part.messages.map((message, index) => (
						<MessageOf key={index.toString()} message={message} />
					))}
				</details>
			);
		case "new":
			return <MessageOf message={part.message} />;
		case "gone":
			return (
				<details>
					<summary>1 gone: {part.message.role}</summary>
					<MessageOf message={part.message} />
				</details>
			);
		case "edited":
			return <MessageOf message={part.message} words={part.words} />;
	}
}

function MessageOf({ message, words }: { message: Message; words?: readonly Piece[] }): ReactNode {
	const calls = (message.tool_calls ?? []).map((call) => callIn(JSON.stringify(call)));
	const text = textOf(message.content);
	return (
		<div className={css.message}>
			<span className={css.role}>{message.role}</span>
			{words ? <Words pieces={words} /> : text !== "" && <pre className={css.said}>{text}</pre>}
			{calls.map((call, index) => (
				<CallOf key={index.toString()} call={call} />
			))}
		</div>
	);
}

/** Words that went and came, within what stayed. */
export function Words({ pieces }: { pieces: readonly Piece[] }): ReactNode {
	return (
		<pre className={css.said}>
			{pieces.map((piece, index) => {
				const key = index.toString();
				if (piece.kind === "gone") return <del key={key}>{piece.text}</del>;
				if (piece.kind === "new") return <ins key={key}>{piece.text}</ins>;
				return <span key={key}>{piece.text}</span>;
			})}
		</pre>
	);
}

/** Tools that it was offered, and the options of the call. */
function Offered({ input }: { input: string }): ReactNode {
	const { names, options } = useMemo(() => offeredIn(input), [input]);
	return (
		<details className={css.offered}>
			<summary>
				{names.length} {names.length === 1 ? "tool" : "tools"} offered, options
			</summary>
			{names.length > 0 && <p>{names.join(", ")}</p>}
			<JsonTree label="Options of the call" text={options} />
		</details>
	);
}

function offeredIn(input: string): { names: string[]; options: string } {
	const tools = at(input, ["tools"]);
	const names = (tools ? members(input, tools) : []).map(({ value }) => {
		const tool = slice(input, value);
		const name = at(tool, ["function", "name"]) ?? at(tool, ["name"]);
		return name === undefined ? "?" : String(parsed(tool, name));
	});
	const shown = members(input, valueAt(input, 0)).filter(({ key }) => key !== "messages" && key !== "prompt");
	const written = shown.map(({ key, value }) => `${JSON.stringify(key)}:${slice(input, value)}`);
	return { names, options: `{${written.join(",")}}` };
}
