/** A part of a page with its own loading, empty, failing and offline states: the others go on working. */
import { Button, Skeleton } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import { Component, type ReactNode, useEffect, useState } from "react";
import { Failure } from "../api/problem";
import { isPartMissing, reloadOnce, thisPage } from "../app/later";
import { useStore } from "../app/store";
import { Time } from "../app/time";
import { asOf, connection } from "../live/live";
import css from "./pane.module.css";

/** Quicker answers need no skeleton. */
const SKELETON_AFTER_MS = 150;

interface PaneProps<T> {
	readonly query: UseQueryResult<T>;
	readonly isEmpty?: (data: T) => boolean;
	/** What makes the first one, such as a command. */
	readonly empty?: ReactNode;
	/** Rows that the skeleton has. */
	readonly rows?: number;
	readonly children: (data: T) => ReactNode;
}

export function Pane<T>(props: PaneProps<T>): ReactNode {
	return (
		<Boundary>
			<Content {...props} />
		</Boundary>
	);
}

function Content<T>({ query, isEmpty, empty, rows = 8, children }: PaneProps<T>): ReactNode {
	if (query.data !== undefined) {
		const content = isEmpty?.(query.data) ? <div className={css.empty}>{empty}</div> : children(query.data);
		if (!query.isError) {
			return (
				<>
					<AsOf />
					{content}
				</>
			);
		}
		return (
			<>
				<Trouble error={query.error} retry={() => query.refetch()} isOld />
				{content}
			</>
		);
	}
	if (query.isError) return <Trouble error={query.error} retry={() => query.refetch()} />;
	return <Waiting rows={rows} />;
}

/** Never falsely live: until when what stands below was current, while the connection is not. */
export function AsOf(): ReactNode {
	const since = useStore(connection, asOf);
	if (since === undefined) return null;
	return (
		<p className={css.asof}>
			as of <Time at={new Date(since).toISOString()} />
		</p>
	);
}

/** A failing part of the page leaves the others working. */
export class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
	override state: { error: unknown } = { error: undefined };

	static getDerivedStateFromError(error: unknown): { error: unknown } {
		return { error: error ?? new Error("something that is nothing was thrown") };
	}

	override render(): ReactNode {
		if (this.state.error === undefined) return this.props.children;
		return <Trouble error={this.state.error} retry={() => this.setState({ error: undefined })} />;
	}
}

function Waiting({ rows }: { rows: number }): ReactNode {
	const [isSlow, setSlow] = useState(false);
	useEffect(() => {
		const timer = setTimeout(() => setSlow(true), SKELETON_AFTER_MS);
		return () => clearTimeout(timer);
	}, []);
	return (
		<div role="status" aria-busy="true" className={css.waiting}>
			<span className="visually-hidden">Loading</span>
			{isSlow && Array.from({ length: rows }, (_, row) => <Skeleton key={row.toString()} height={20} my={8} />)}
		</div>
	);
}

/** What failed, and what to do about it. A part that cannot be loaded is not to be had by the page as it is. */
export function Trouble({
	error,
	retry,
	isOld = false,
}: {
	error: unknown;
	retry: () => void;
	isOld?: boolean;
}): ReactNode {
	const problem = error instanceof Failure ? error.problem : undefined;
	const isMissing = isPartMissing(error);
	useEffect(() => {
		if (isMissing) void reloadOnce(thisPage);
	}, [isMissing]);
	return (
		<div role="alert" className={css.trouble}>
			<strong>{problem?.title ?? "This part of the page failed"}</strong>
			<p>{problem?.detail ?? (error instanceof Error ? error.message : String(error))}</p>
			{problem?.next && <p>Next: {problem.next}</p>}
			{isOld && <p>What stands below was read before.</p>}
			<p className={css.facts}>
				{problem?.type.includes("/") && <code>{problem.type}</code>}
				{problem?.request_id && <code>request {problem.request_id}</code>}
			</p>
			<Button size="compact-sm" variant="default" onClick={isMissing ? thisPage.reload : retry}>
				{isMissing ? "Load the page anew" : "Try again"}
			</Button>
		</div>
	);
}
