/** The form against the OpenAPI document that it is derived from, and its checks. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
// @ts-expect-error -- a script of the build, without types
import { formOf } from "../../../../scripts/agent-schema.mjs";
import { check } from "./check";
import { agentForm, parsePath, pathText } from "./form";

const good = { apiVersion: "mesh/v1", kind: "Agent", metadata: { name: "sofia" }, spec: { tools: ["now"] } };

function said(value: unknown): string[] {
	return check(value, agentForm).map(({ path, message }) => `${pathText(path)} ${message}`);
}

it("is what the OpenAPI document says", () => {
	const document = JSON.parse(readFileSync(`${process.cwd()}/../../../docs/reference/openapi.json`, "utf8"));
	expect(formOf(document, "Agent"), "run npm run api").toEqual(agentForm);
});

it("takes a good agent", () => {
	expect(said(good)).toEqual([]);
	expect(said({ metadata: { name: "a" } })).toEqual([]);
});

it.each([
	[{ ...good, spec: { model: { temperature: 9 } } }, "spec.model.temperature must be at most 2"],
	[{ ...good, spec: { model: { max_tokens: 1.5 } } }, "spec.model.max_tokens must be a whole number"],
	[{ ...good, spec: { model: { max_tokens: "many" } } }, "spec.model.max_tokens must be a number, is a text"],
	[{ ...good, spec: { limits: { timeout: "soon" } } }, "spec.limits.timeout must match ^[0-9]+(ms|s|m|h|d)$, such as 120s"],
	[{ ...good, spec: { runtme: "llm" } }, "spec.runtme is no field here; did you mean runtime?"],
	[{ ...good, spec: { session: { policy: "both" } } }, "spec.session.policy must be one of queue, reject, interrupt, merge"],
	[{ ...good, spec: { tools: [{ kind: "http" }] } }, "spec.tools[0].name is needed"],
	[{ ...good, spec: { tools: [{ name: "" }] } }, "spec.tools[0].name is needed"],
	[{ ...good, spec: { model: null } }, "spec.model is empty: write a value, or leave the line out"],
	[{ ...good, metadata: {} }, "metadata.name is needed"],
	[{ ...good, metadata: { name: "a b" } }, "metadata.name must match ^[A-Za-z0-9_-]{1,64}$"],
	["text", " must be a map, is a text"],
])("finds what is wrong %#", (value, message) => {
	expect(said(value)).toEqual([message]);
});

it("reads paths as it writes them", () => {
	const path = ["spec", "tools", 0, "script", "command", 12];
	expect(pathText(path)).toBe("spec.tools[0].script.command[12]");
	expect(parsePath(pathText(path))).toEqual(path);
});
