/** The editor: form and YAML side by side, one document; what is wrong is shown in both. */
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, type ReactNode, Suspense } from "react";
import { later } from "../../app/later";
import { useMay } from "../../app/session";
import css from "./agents.module.css";
import type { AgentView } from "./data";
import { Difference } from "./difference";
import type { Draft } from "./draft";
import { lineOf, writeSpec } from "./form/document";
import { AgentForm } from "./form/fields";
import { agentForm, type Path, pathText } from "./form/form";
import { inputId } from "./form/inputs";

const YamlEditor = lazy(later(() => import("./form/editor").then(({ YamlEditor: component }) => ({ default: component }))));

/** Fixed for one agent. */
const WITHOUT = ["apiVersion", "kind", "metadata.name", "metadata.tenant"];

interface EditorProps {
	readonly view: AgentView;
	readonly draft: Draft;
	readonly liveSpec: unknown;
}

export function Editor({ view, draft, liveSpec }: EditorProps): ReactNode {
	const { view: side = "form" } = useSearch({ from: "/t/$tenant/agents/$agent" });
	const navigate = useNavigate({ from: "/t/$tenant/agents/$agent" });
	const isFixed = !useMay("developer");
	const isReadable = draft.value !== undefined;
	const choose = (next: string) =>
		void navigate({ search: (old) => ({ ...old, view: next === "yaml" ? ("yaml" as const) : ("form" as const) }), replace: true });
	return (
		<>
			<Issues draft={draft} choose={choose} />
			<div className={css.views}>
				<SegmentedControl
					size="xs"
					value={side}
					onChange={choose}
					aria-label="Side of the editor"
					data={[
						{ value: "form", label: "Form" },
						{ value: "yaml", label: "YAML" },
					]}
				/>
			</div>
			<div className={css.split} data-view={side}>
				<section className={`${css.side} ${css.sideForm}`} aria-label="Form">
					{isReadable ? (
						<AgentForm
							form={agentForm}
							value={draft.value}
							without={WITHOUT}
							issues={draft.issues}
							isFixed={isFixed}
							patch={draft.patch}
						/>
					) : (
						<p className={css.dim}>The form comes back when the text is YAML again: see the marked line.</p>
					)}
				</section>
				<section className={`${css.side} ${css.yaml}`} aria-label="YAML">
					<Suspense fallback={<Skeleton height={320} />}>
						<YamlEditor
							value={draft.text}
							marks={draft.marks}
							isFixed={isFixed}
							label={`YAML of ${view.metadata.name}`}
							change={draft.change}
						/>
					</Suspense>
				</section>
			</div>
			{liveSpec !== undefined && (draft.isChanged || view.status.draft) && isReadable && (
				<details>
					<summary>What changes against the live version</summary>
					<Difference
						label="Draft against the live version"
						before={writeSpec(liveSpec)}
						after={writeSpec((draft.value as { spec?: unknown } | null)?.spec ?? {})}
					/>
				</details>
			)}
		</>
	);
}

/** All that is wrong, above both sides: each leads to its field. */
function Issues({ draft, choose }: { draft: Draft; choose: (side: string) => void }): ReactNode {
	const unreadable = draft.marks.slice(0, draft.marks.length - draft.issues.length);
	if (draft.marks.length === 0) return null;
	const show = (path: Path) => {
		choose("form");
		requestAnimationFrame(() => reveal(path));
	};
	return (
		<div className={css.issues} role="alert">
			<strong>{draft.marks.length === 1 ? "1 thing is wrong" : `${draft.marks.length} things are wrong`}</strong>: publish is off
			<ul>
				{unreadable.map((mark) => (
					<li key={`${mark.from}:${mark.message}`}>
						line {draft.text.slice(0, mark.from).split("\n").length}: {mark.message}
					</li>
				))}
				{draft.issues.map((issue) => (
					<li key={`${pathText(issue.path)}:${issue.message}`}>
						<button type="button" className={css.link} onClick={() => show(issue.path)}>
							{pathText(issue.path)}
						</button>{" "}
						{issue.message} (line {lineOf(draft.text, issue.path)})
					</li>
				))}
			</ul>
		</div>
	);
}

/** Into sight and focus; what has no field of its own is shown by what is around it. */
function reveal(path: Path): void {
	for (let length = path.length; length > 0; length--) {
		const element = document.getElementById(inputId(path.slice(0, length)));
		if (!element) continue;
		element.scrollIntoView({ block: "center" });
		element.focus({ preventScroll: true });
		return;
	}
}
