/** Model calls that stream before any record names them, as rows of their own. */
import { useRef, useSyncExternalStore } from "react";
import { mergedSteps } from "./merge";
import type { Step } from "./steps";
import type { Streams } from "./stream";

/** `steps` with what streams and is not known as recorded; the same array where nothing does. */
export function useRunning(streams: Streams, steps: readonly Step[]): readonly Step[] {
	const began = useRef(new Map<number, string>());
	// As a text: a snapshot must be the same value while nothing changes.
	const spoken = useSyncExternalStore(streams.subscribe, () => streams.spoken().join(","));
	const known = new Set(steps.map((step) => step.number));
	const unknown = spoken.split(",").filter((number) => number !== "" && !known.has(Number(number)));
	const model = steps.findLast((step) => step.kind === "model");
	const made = unknown.map((text): Step => {
		const number = Number(text);
		const at = began.current.get(number) ?? new Date().toISOString();
		began.current.set(number, at);
		return {
			number,
			kind: "model",
			name: model?.name ?? "",
			effect: "idempotent",
			usage: {},
			attempt: streams.of(number)?.attempt ?? 1,
			epoch: steps.at(-1)?.epoch ?? 1,
			error: null,
			started_at: at,
			ended_at: null,
		};
	});
	return mergedSteps(steps, made);
}
