/** By which model meaning is searched, and how far embedding is. */
import { Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useEmbedding } from "./data";
import css from "./memory.module.css";

export function Embedding({ tenant }: { tenant: string }): ReactNode {
	const queries = useQueryClient();
	const { data } = useEmbedding(tenant);
	if (data === undefined) return null;
	const percent = Math.floor(data.progress * 100);
	const isDone = data.waiting === 0;
	return (
		<div className={css.embedding}>
			{!data.available && (
				<span className={css.trouble}>
					△ meaning is not searched: {data.error ?? "the embedding model cannot be asked"}
				</span>
			)}
			<span className={css.dim}>
				embedded by <code>{data.current}</code>
			</span>
			{isDone ? (
				<span className={css.dim}>all are embedded</span>
			) : (
				<>
					<progress max={1} value={data.progress} aria-label="Embedding" />
					<span>
						{percent} %, {data.waiting.toLocaleString("en")} wait
					</span>
					<Button
						size="compact-xs"
						variant="default"
						onClick={() => void queries.invalidateQueries({ queryKey: [tenant, "memories", "embedding"] })}
					>
						Read again
					</Button>
				</>
			)}
		</div>
	);
}
