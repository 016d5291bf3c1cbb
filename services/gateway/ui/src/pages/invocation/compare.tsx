/** Two invocations side by side: what they share folded, then steps in pairs, each with what is different. */
import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useEffect, useMemo, useRef, useState } from "react";
import { ask, client } from "../../api/client";
import { useKey } from "../../app/keys";
import { span } from "../../app/time";
import { Command } from "../../parts/command";
import { Pane } from "../../parts/pane";
import { StateMark } from "../../parts/state";
import css from "./compare.module.css";
import { money } from "./money";
import { type Comparison, delta, nextDifference, type Pair, paired, type Side } from "./pairing";
import { PairDetail } from "./pair";
import { titleOf } from "./steps";

const ROW_PX = 28;

interface CompareProps {
	readonly tenant: string;
	readonly left: string;
	readonly right: string;
}

/** `left` is what it is held against, such as the source of the fork `right`. */
export function Compare({ tenant, left, right }: CompareProps): ReactNode {
	const navigate = useNavigate({ from: "/t/$tenant/invocations/$id" });
	const leave = () => void navigate({ search: ({ compare: _, ...rest }) => rest });
	useKey("Escape", "leave the comparison", leave);
	const compared = useQuery({
		queryKey: [tenant, "invocation", right, "compare", left],
		queryFn: ({ signal }) =>
			ask(
				client.GET("/api/v1/invocations/{id}/compare/{other}", { signal, params: { path: { id: left, other: right } } }),
			),
	});
	return (
		<section aria-label="Comparison" className={css.compare}>
			<div className={css.bar}>
				<Command text={`mesh compare ${left} ${right}`} />
				<Button size="compact-sm" variant="default" onClick={leave}>
					Close <kbd className={css.key}>Esc</kbd>
				</Button>
			</div>
			<Pane query={compared} rows={8}>
				{(comparison) => <Pairs tenant={tenant} comparison={comparison} />}
			</Pane>
		</section>
	);
}

function Pairs({ tenant, comparison }: { tenant: string; comparison: Comparison }): ReactNode {
	const { shared, pairs, first } = useMemo(() => paired(comparison), [comparison]);
	const [chosen, setChosen] = useState<number | undefined>(first);
	const [isOpen, setOpen] = useState(false);
	const box = useRef<HTMLDivElement>(null);
	const list = useVirtualizer({
		count: pairs.length,
		getScrollElement: () => box.current,
		estimateSize: () => ROW_PX,
		overscan: 10,
	});
	const go = (index: number | undefined) => {
		if (index === undefined) return false;
		setChosen(index);
		list.scrollToIndex(index, { align: "auto" });
		requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`[data-pair="${index}"]`)?.focus());
	};
	useEffect(() => {
		if (first === undefined) return;
		list.scrollToIndex(first, { align: "center" });
		requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`[data-pair="${first}"]`)?.focus());
	}, [first, list]);
	useKey("n", "next difference", () => go(nextDifference(pairs, chosen ?? -1)));
	useKey("j", "next pair", () => go(Math.min(pairs.length - 1, (chosen ?? -1) + 1)));
	useKey("k", "previous pair", () => go(Math.max(0, (chosen ?? 0) - 1)));
	const differing = pairs.filter((pair) => pair.differs.length > 0).length;
	const pair = chosen === undefined ? undefined : pairs[chosen];
	return (
		<>
			<Ends tenant={tenant} comparison={comparison} />
			<p role="status" className={css.dim}>
				{differing === 0 ? "No recorded step differs." : `${differing} of ${pairs.length} pairs differ; n goes to the next.`}
			</p>
			{shared > 0 && (
				<button type="button" className={css.shared} aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
					{isOpen ? "▾" : "▸"} {shared === 1 ? "step 1 is" : `steps 1–${shared} are`} one recording, read by both
				</button>
			)}
			{isOpen && <Shared comparison={comparison} shared={shared} />}
			<div className={css.both}>
				<div ref={box} className={css.pairs} role="list" aria-label="Pairs of steps">
					<div role="presentation" style={{ height: list.getTotalSize(), position: "relative" }}>
						{list.getVirtualItems().map((row) => {
							const one = pairs[row.index];
							return one ? (
								<PairRow
									key={row.key}
									pair={one}
									index={row.index}
									top={row.start}
									isChosen={row.index === chosen}
									choose={() => setChosen(row.index)}
								/>
							) : null;
						})}
					</div>
				</div>
				{pair && <PairDetail key={pair.key} tenant={tenant} left={comparison.left.id} right={comparison.right.id} pair={pair} />}
			</div>
		</>
	);
}

function Ends({ tenant, comparison }: { tenant: string; comparison: Comparison }): ReactNode {
	const { left, right } = comparison;
	const took = (of: Comparison["left"]) =>
		of.ended_at ? Date.parse(of.ended_at) - Date.parse(of.created_at) : undefined;
	const tokens = (of: Comparison["left"]) => (of.usage.input_tokens ?? 0) + (of.usage.output_tokens ?? 0);
	return (
		<div className={css.ends}>
			{[left, right].map((one) => (
				<span key={one.id}>
					<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: one.id }}>
						{one.agent}@{one.version} …{one.id.slice(-6)}
					</Link>{" "}
					<StateMark state={one.state} />
				</span>
			))}
			<span>
				time {delta(took(left), took(right), span) || "the same"} · tokens{" "}
				{delta(tokens(left), tokens(right), (value) => value.toLocaleString("en")) || "the same"} · cost{" "}
				{delta(left.usage.cost_usd, right.usage.cost_usd, money) || "the same"}
			</span>
		</div>
	);
}

function Shared({ comparison, shared }: { comparison: Comparison; shared: number }): ReactNode {
	return (
		<ol className={css.sharedList}>
			{comparison.steps
				.filter((step) => step.step <= shared)
				.slice(0, 200)
				.map((step) => (
					<li key={step.step}>
						{step.step} {step.left && titleOf(step.left)} <span className={css.dim}>{step.left?.short_text}</span>
					</li>
				))}
		</ol>
	);
}

interface PairRowProps {
	readonly pair: Pair;
	readonly index: number;
	readonly top: number;
	readonly isChosen: boolean;
	choose(): void;
}

function PairRow({ pair, index, top, isChosen, choose }: PairRowProps): ReactNode {
	const { left, right, differs } = pair;
	const tokens = (side: Side | undefined) => side && (side.usage.input_tokens ?? 0) + (side.usage.output_tokens ?? 0);
	const title = (side: Side | undefined) => (side ? `${side.number} ${titleOf(side)}` : "—");
	return (
		<div role="listitem" className={css.item} style={{ transform: `translateY(${top}px)` }}>
			<button
				type="button"
				data-pair={index}
				className={css.pair}
				aria-current={isChosen ? "true" : undefined}
				data-differs={differs.length > 0 ? "true" : undefined}
				onClick={choose}
			>
				<span>{title(left)}</span>
				<span>{title(right)}</span>
				<span className={css.differs}>{differs.length > 0 ? differs.join(", ") : "the same"}</span>
				<span className={css.delta}>{delta(left?.took_ms, right?.took_ms, span)}</span>
				<span className={css.delta}>{delta(tokens(left), tokens(right), (value) => `${value} tokens`)}</span>
			</button>
		</div>
	);
}
