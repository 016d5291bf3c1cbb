/** One pair of steps: what the one said and the other says, words and lines that differ. */
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useMemo } from "react";
import { span } from "../../app/time";
import { Pane } from "../../parts/pane";
import css from "./compare.module.css";
import type { Body } from "./body";
import { bodyOf } from "./data";
import { lineDiff, type Piece, textDiff } from "./diff";
import { Words } from "./model";
import { money } from "./money";
import { delta, type Pair, type Side } from "./pairing";
import { at, indented, parsed } from "./slices";
import { titleOf } from "./steps";

/** Longer texts are not held against each other word by word. */
const WORDS_TEXT_MAX = 50_000;
/** Lines that are shown around a difference. */
const AROUND = 2;

interface PairDetailProps {
	readonly tenant: string;
	readonly left: string;
	readonly right: string;
	readonly pair: Pair;
}

export function PairDetail({ tenant, left, right, pair }: PairDetailProps): ReactNode {
	const a = useQuery(bodyOf(tenant, left, pair.left?.number));
	const b = useQuery(bodyOf(tenant, right, pair.right?.number));
	const one = pair.right ?? pair.left;
	return (
		<section className={css.detail} aria-label="What differs">
			<h2 className={css.title}>{one && titleOf(one)}</h2>
			<p className={css.dim}>{differences(pair.left, pair.right)}</p>
			{pair.left && pair.right ? (
				<Pane query={a} rows={3}>
					{(before) => <Pane query={b} rows={3}>{(now) => <Both before={before} now={now} />}</Pane>}
				</Pane>
			) : (
				<p>{pair.left ? "Only the left one has this step." : "Only the right one has this step."}</p>
			)}
			{!(pair.left && pair.right) && <pre className={css.text}>{one?.short_text}</pre>}
		</section>
	);
}

function differences(left: Side | undefined, right: Side | undefined): string {
	const tokens = (side: Side | undefined) => side && (side.usage.input_tokens ?? 0) + (side.usage.output_tokens ?? 0);
	const parts = [
		["time", delta(left?.took_ms, right?.took_ms, span)],
		["tokens", delta(tokens(left), tokens(right), (value) => value.toLocaleString("en"))],
		["cost", delta(left?.usage.cost_usd, right?.usage.cost_usd, money)],
	];
	const told = parts.filter(([, text]) => text !== "").map(([name, text]) => `${name} ${text}`);
	return told.join(" · ") || "as long, as many tokens, as dear";
}

function Both({ before, now }: { before: Body | null; now: Body | null }): ReactNode {
	return (
		<>
			<Part name="Saw" before={seenOf(before?.input ?? "null")} now={seenOf(now?.input ?? "null")} />
			<Part name="Result" before={resultOf(before?.output ?? "null")} now={resultOf(now?.output ?? "null")} />
		</>
	);
}

interface Shown {
	/** Text is told word by word, JSON line by line. */
	readonly kind: "text" | "json";
	readonly text: string;
}

/** The prompt as one list of messages where there is one: `prompt` tells the same as `messages`. */
function seenOf(input: string): Shown {
	const messages = at(input, ["messages"]);
	return { kind: "json", text: indented(input, messages) };
}

function resultOf(output: string): Shown {
	const text = at(output, ["text"]);
	const calls = at(output, ["tool_calls"]);
	const said = text === undefined ? undefined : parsed(output, text);
	if (typeof said === "string" && calls === undefined) return { kind: "text", text: said };
	return { kind: "json", text: indented(output) };
}

function Part({ name, before, now }: { name: string; before: Shown; now: Shown }): ReactNode {
	const isSame = before.text === now.text;
	return (
		<>
			<h3 className={css.subtitle}>
				{name} {isSame && <span className={css.dim}>the same</span>}
			</h3>
			{!isSame && (before.kind === "text" && now.kind === "text" ? <Texts {...{ before, now }} /> : <Lines {...{ before, now }} />)}
		</>
	);
}

function Texts({ before, now }: { before: Shown; now: Shown }): ReactNode {
	const pieces = useMemo(() => {
		const isLong = before.text.length + now.text.length > WORDS_TEXT_MAX;
		return isLong ? lineDiff(before.text, now.text) : textDiff(before.text, now.text);
	}, [before, now]);
	return <Words pieces={pieces} />;
}

function Lines({ before, now }: { before: Shown; now: Shown }): ReactNode {
	const lines = useMemo(() => around(lineDiff(before.text, now.text)), [before, now]);
	return (
		<pre className={css.text}>
			{lines.map((line, index) => {
				const key = index.toString();
				if (typeof line === "number") {
					return (
						<span key={key} className={css.dim}>
							{`  … ${line} lines the same\n`}
						</span>
					);
				}
				if (line.kind === "gone") return <del key={key}>{`- ${line.text}\n`}</del>;
				if (line.kind === "new") return <ins key={key}>{`+ ${line.text}\n`}</ins>;
				return <span key={key}>{`  ${line.text}\n`}</span>;
			})}
		</pre>
	);
}

/** Lines that stayed are folded to a number, but for a few around each difference. */
export function around(lines: readonly Piece[]): (Piece | number)[] {
	const isNear = lines.map(() => false);
	for (const [index, line] of lines.entries()) {
		if (line.kind === "same") continue;
		for (let at = Math.max(0, index - AROUND); at <= Math.min(lines.length - 1, index + AROUND); at += 1) isNear[at] = true;
	}
	const out: (Piece | number)[] = [];
	for (const [index, line] of lines.entries()) {
		const last = out.at(-1);
		if (isNear[index]) out.push(line);
		else if (typeof last === "number") out[out.length - 1] = last + 1;
		else out.push(1);
	}
	return out;
}
