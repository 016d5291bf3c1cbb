/** Giving an agent a memory by hand. */
import { Select, Textarea, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import { ask, client } from "../../api/client";
import { Deed } from "../../parts/deed";
import { quoted } from "./score";
import { types } from "./search";

export function Remember({ tenant, agents }: { tenant: string; agents: readonly string[] }): ReactNode {
	const queries = useQueryClient();
	const [agent, setAgent] = useState<string | null>(null);
	const [content, setContent] = useState("");
	const [type, setType] = useState<(typeof types)[number]>("semantic");
	const [user, setUser] = useState("");
	const of = user.trim();
	const command = [
		`mesh memories remember ${agent ?? "AGENT"} ${quoted(content || "…")}`,
		type === "semantic" ? "" : `--type ${type}`,
		of === "" ? "" : `--user ${quoted(of)}`,
	];
	return (
		<Deed
			label="Remember"
			title="Give an agent a memory"
			least="operator"
			command={command.filter(Boolean).join(" ")}
			barred={agent === null ? "choose an agent" : content.trim() === "" ? "say what is to be remembered" : undefined}
			run={async () => {
				const body = { agent: agent ?? "", content, type, ...(of === "" ? {} : { user: of, scope: "user" as const }) };
				await ask(client.POST("/api/v1/memories", { body }));
				setContent("");
				await queries.invalidateQueries({ queryKey: [tenant, "memories"] });
			}}
		>
			<Select label="Agent" data={[...agents]} value={agent} onChange={setAgent} searchable withAsterisk />
			<Textarea
				label="What is remembered"
				autosize
				minRows={3}
				maxRows={12}
				maxLength={32 * 1024}
				value={content}
				onChange={(event) => setContent(event.currentTarget.value)}
				withAsterisk
			/>
			<Select
				label="Type"
				data={[...types]}
				value={type}
				onChange={(value) => setType(types.find((known) => known === value) ?? "semantic")}
				allowDeselect={false}
			/>
			<TextInput
				label="Of one user only"
				description="Empty: of the agent, whoever it talks to"
				value={user}
				onChange={(event) => setUser(event.currentTarget.value)}
			/>
		</Deed>
	);
}
