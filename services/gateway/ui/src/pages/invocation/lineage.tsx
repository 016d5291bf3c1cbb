/** Where it was forked from, and which other branches there are; each may be held against this one. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { StateMark } from "../../parts/state";
import { useBranches } from "./data";
import css from "./invocation.module.css";
import { othersOf, pathTo } from "./branches";
import type { Invocation } from "./steps";

export function Lineage({ tenant, invocation }: { tenant: string; invocation: Invocation }): ReactNode {
	const { data } = useBranches(tenant, invocation);
	// The list may have been read a moment before a new branch was in it.
	const read = data?.items ?? [];
	const all = data === undefined || read.some((one) => one.id === invocation.id) ? read : [...read, invocation];
	const path = pathTo(all, invocation.id);
	const others = othersOf(all, path);
	if (path.length < 2 && others.length === 0) return null;
	return (
		<nav aria-label="Branches" className={css.lineage}>
			<ol>
				{path.map(({ invocation: one, step }) => (
					<li key={one.id}>
						{step !== undefined && <span className={css.dim}>&gt; from {step} </span>}
						<Branch
							tenant={tenant}
							one={one.id === invocation.id ? invocation : one}
							name={step === undefined ? "main" : undefined}
							isHere={one.id === invocation.id}
						/>
					</li>
				))}
			</ol>
			{others.length > 0 && (
				<details>
					<summary>
						{others.length} other {others.length === 1 ? "branch" : "branches"}
					</summary>
					<ul>
						{others.map((one) => (
							<li key={one.id}>
								{one.forked_from ? <span className={css.dim}>from {one.forked_from.step} </span> : null}
								<Branch tenant={tenant} one={one} name={one.forked_from ? undefined : "main"} isHere={false} />{" "}
								<Link
									to="/t/$tenant/invocations/$id"
									params={{ tenant, id: invocation.id }}
									search={{ compare: one.id }}
								>
									compare
								</Link>
							</li>
						))}
					</ul>
				</details>
			)}
		</nav>
	);
}

function Branch(props: { tenant: string; one: Invocation; name: string | undefined; isHere: boolean }): ReactNode {
	const { tenant, one, name = `…${one.id.slice(-6)}`, isHere } = props;
	return (
		<>
			<StateMark state={one.state} bare />{" "}
			{isHere ? (
				<strong aria-current="page">{name}</strong>
			) : (
				<Link to="/t/$tenant/invocations/$id" params={{ tenant, id: one.id }} title={one.id}>
					{name}
				</Link>
			)}
		</>
	);
}
