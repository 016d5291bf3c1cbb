/** All versions of an agent: who made which when, what differs between two, and the way back to one. */
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type ReactNode } from "react";
import { NativeSelect } from "@mantine/core";
import { ask, client } from "../../api/client";
import { Time } from "../../app/time";
import { Act } from "../../parts/act";
import { Section } from "../../parts/section";
import css from "./agents.module.css";
import { type AgentView, countsOf, keep, keys, open, readAgent, type Version } from "./data";
import { Difference } from "./difference";
import { writeSpec } from "./form/document";
import { counted } from "./words";

/** In `?diff=`: the draft. */
const DRAFT = 0;

interface VersionsProps {
	readonly tenant: string;
	readonly view: AgentView;
	/** Newest first. */
	readonly versions: readonly Version[];
}

export function Versions({ tenant, view, versions }: VersionsProps): ReactNode {
	const search = useSearch({ from: "/t/$tenant/agents/$agent" });
	const chosen = versions.find(({ version }) => version === search.version) ?? versions[0];
	return (
		<>
			<table className={css.versions}>
				<caption className="visually-hidden">Versions of {view.metadata.name}, newest first</caption>
				<thead>
					<tr>
						<th scope="col">version</th>
						<th scope="col">made</th>
						<th scope="col">by</th>
						<th scope="col" className={css.hash}>
							artifact
						</th>
						<th scope="col">
							<span className="visually-hidden">Acts</span>
						</th>
					</tr>
				</thead>
				<tbody>
					{versions.map((version) => (
						<tr key={version.version} aria-current={version === chosen ? "true" : undefined}>
							<td>
								<Link to="." search={(old) => ({ ...old, version: version.version })}>
									v{version.version}
								</Link>{" "}
								{version.current && <strong>live</strong>}
							</td>
							<td>
								<Time at={version.created_at} />
							</td>
							<td>{version.created_by}</td>
							<td className={css.hash}>
								<code title={version.hash}>{version.hash.slice(0, 12)}</code>
							</td>
							<td>
								{!version.current && <RollbackAct tenant={tenant} view={view} version={version} versions={versions} />}
							</td>
						</tr>
					))}
				</tbody>
			</table>
			{chosen && <Compared view={view} versions={versions} chosen={chosen} />}
		</>
	);
}

function Compared({ view, versions, chosen }: Omit<VersionsProps, "tenant"> & { chosen: Version }): ReactNode {
	const { diff } = useSearch({ from: "/t/$tenant/agents/$agent" });
	const navigate = useNavigate({ from: "/t/$tenant/agents/$agent" });
	const older = versions.find(({ version }) => version < chosen.version);
	const against = diff ?? older?.version ?? DRAFT;
	const other = versions.find(({ version }) => version === against);
	const name = (number: number) => (number === DRAFT ? "the draft" : `v${number}`);
	const options = [
		{ value: String(DRAFT), label: "the draft" },
		...versions.map(({ version, current }) => ({ value: String(version), label: `v${version}${current ? " live" : ""}` })),
	];
	return (
		<Section
			title={`v${chosen.version} against ${name(against)}`}
			aside={
				<NativeSelect
					size="xs"
					aria-label={`Hold v${chosen.version} against`}
					value={String(against)}
					data={options}
					onChange={(event) => {
						const next = Number(event.currentTarget.value);
						void navigate({ search: (old) => ({ ...old, version: chosen.version, diff: next }) });
					}}
				/>
			}
		>
			<p className={css.dim}>
				Lines with − are of {name(against)}, lines with + of v{chosen.version}.
			</p>
			<Difference
				label={`v${chosen.version} against ${name(against)}`}
				before={writeSpec(other?.spec ?? view.spec)}
				after={writeSpec(chosen.spec)}
			/>
		</Section>
	);
}

function RollbackAct({ tenant, view, version, versions }: VersionsProps & { version: Version }): ReactNode {
	const queries = useQueryClient();
	const name = view.metadata.name;
	const live = versions.find(({ current }) => current);
	const effect = async (): Promise<ReactNode> => {
		const counts = await countsOf(name);
		return (
			<div className={css.stack}>
				<p>
					New invocations of {name} take v{version.version} instead of v{live?.version};{" "}
					{counted(open(counts), "open invocation")} {open(counts) === 1 ? "stays on its" : "stay on their"} version. The
					draft stays as it is.
				</p>
				{live && (
					<Difference
						label={`v${version.version} against the live version`}
						before={writeSpec(live.spec)}
						after={writeSpec(version.spec)}
					/>
				)}
			</div>
		);
	};
	const run = async () => {
		const params = { path: { agent: name } };
		await ask(client.POST("/api/v1/agents/{agent}/rollback", { params, body: { version: version.version } }));
		await queries.invalidateQueries({ queryKey: keys.versions(tenant, name) });
		keep(queries, tenant, await readAgent(name));
	};
	return (
		<Act
			label={`Roll back to v${version.version}`}
			least="developer"
			size="compact-xs"
			confirm={effect}
			yes={`Roll back to v${version.version}`}
			run={run}
		/>
	);
}
