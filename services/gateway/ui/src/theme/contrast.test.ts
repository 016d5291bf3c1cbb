import { describe, expect, it } from "vitest";
import { blend, contrast } from "./contrast";
import { dark, light, type Palette, stateColour, TINT } from "./tokens";

const TEXT_MIN = 4.9;
const EDGE_MIN = 3.2;
const grounds = ["canvas", "surface", "selected"] as const;

describe.each([
	["light", light],
	["dark", dark],
] as const)("%s", (_, palette: Palette) => {
	const words = new Set<keyof Palette>(["text", "dim", ...Object.values(stateColour)]);
	for (const ground of grounds) {
		it.each([...words])(`%s can be read on ${ground}, and on its own tint there`, (word) => {
			expect(contrast(palette[word], palette[ground])).toBeGreaterThanOrEqual(TEXT_MIN);
			if (ground !== "selected") {
				const tinted = blend(palette[word], palette[ground], TINT);
				expect(contrast(palette[word], tinted)).toBeGreaterThanOrEqual(TEXT_MIN);
			}
		});
		it(`edges of controls are seen on ${ground}`, () => {
			expect(contrast(palette.edge, palette[ground])).toBeGreaterThanOrEqual(EDGE_MIN);
		});
	}
});

it("knows black on white", () => {
	expect(contrast("#000000", "#ffffff")).toBeCloseTo(21);
});
