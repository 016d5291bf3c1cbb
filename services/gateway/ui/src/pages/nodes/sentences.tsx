/** What a pass does, as the server says it. */
import type { ReactNode } from "react";
import { Time } from "../../app/time";
import css from "./nodes.module.css";
import type { Pass } from "./state";

type Action = Pass["actions"][number];

export function Sentences({ actions, nothing }: { actions: readonly Action[]; nothing?: string }): ReactNode {
	if (actions.length === 0) return nothing === undefined ? null : <p className={css.dim}>{nothing}</p>;
	return (
		<ul className={css.sentences}>
			{actions.map((action, index) => (
				<li key={`${index}-${action.sentence}`} data-result={action.result}>
					{action.sentence} <strong>{action.result}</strong>
					{action.next_try_at && (
						<span className={css.dim}>
							{" "}
							· tries again <Time at={action.next_try_at} />
						</span>
					)}
				</li>
			))}
		</ul>
	);
}
