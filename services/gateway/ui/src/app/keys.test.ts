/** How keys are spelled. */
import { expect, it } from "vitest";
import { isLetter, spelled } from "./keys";

const key = (name: string, more = {}) => ({ key: name, ctrlKey: false, metaKey: false, altKey: false, ...more });

it("spells keys with the one modifier that commands have", () => {
	expect(spelled(key("k", { ctrlKey: true }))).toBe("mod+k");
	expect(spelled(key("K", { metaKey: true }))).toBe("mod+k");
	expect(spelled(key("k", { altKey: true }))).toBe("");
	expect(spelled(key("?"))).toBe("?");
});

it("knows single letters, which can be turned off", () => {
	expect(["j", "?", "g o"].map(isLetter)).toEqual([true, true, true]);
	expect(["Enter", "mod+k", "ArrowDown"].map(isLetter)).toEqual([false, false, false]);
});
