/** Colours of both themes; `contrast.test.ts` computes what UI.md demands of them. */

export interface Palette {
	readonly canvas: string;
	readonly surface: string;
	readonly selected: string;
	readonly text: string;
	readonly dim: string;
	readonly edge: string;
	readonly accent: string;
	readonly waiting: string;
	readonly completed: string;
	readonly failed: string;
	readonly dead: string;
}

export const light: Palette = {
	canvas: "#f6f7f9",
	surface: "#ffffff",
	selected: "#e3edfb",
	text: "#15181c",
	dim: "#535b66",
	edge: "#79828e",
	accent: "#1a5cc0",
	waiting: "#845400",
	completed: "#0e6535",
	failed: "#ae1a25",
	dead: "#8a1a6b",
};

export const dark: Palette = {
	canvas: "#0f1216",
	surface: "#161a20",
	selected: "#1b2c45",
	text: "#e7eaee",
	dim: "#a4adb9",
	edge: "#6f7a88",
	accent: "#7fb3ff",
	waiting: "#e7b14f",
	completed: "#5fd08d",
	failed: "#ff8d88",
	dead: "#f08fd0",
};

/** Share of its own colour behind a state's word. */
export const TINT = 0.12;

export type InvocationState = "queued" | "running" | "waiting" | "completed" | "failed" | "cancelled" | "dead";

/** Which colour a state has. */
export const stateColour: Record<InvocationState, keyof Palette> = {
	queued: "dim",
	running: "accent",
	waiting: "waiting",
	completed: "completed",
	failed: "failed",
	cancelled: "dim",
	dead: "dead",
};
