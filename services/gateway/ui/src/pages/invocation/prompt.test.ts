import { describe, expect, it } from "vitest";
import { counted, type Message, seen, sizeOf, textOf } from "./prompt";

const said = (role: string, content: string): Message => ({ role, content });
const SYSTEM = said("system", "You are the clerk.");
const ASKED = said("user", "Pay invoice 88 to Anna today, and tell me when it is done.");

describe("what a model saw", () => {
	it("is all new at first", () => {
		const first = seen({ prompt: { base: null, keep: 0, new: [] }, messages: [SYSTEM, ASKED] }, []);
		expect(counted(first)).toBe("2 new");
	});

	it("counts what it kept, and shows what is new", () => {
		const answer = said("assistant", "I look it up.");
		const next = seen({ prompt: { base: 2, keep: 2, new: [] }, messages: [SYSTEM, ASKED, answer] }, [SYSTEM, ASKED]);
		expect(next).toEqual([
			{ kind: "kept", messages: [SYSTEM, ASKED] },
			{ kind: "new", message: answer },
		]);
		expect(counted(next)).toBe("1 new, 2 kept");
	});

	it("shows the words of what was edited, and what is gone", () => {
		const edited = said("user", "Pay invoice 89 to Anna today, and tell me when it is done.");
		const next = seen({ prompt: { base: 2, keep: 1, new: [] }, messages: [SYSTEM, edited] }, [
			SYSTEM,
			ASKED,
			said("assistant", "Done."),
		]);
		expect(next.map((one) => one.kind)).toEqual(["kept", "edited", "gone"]);
		const words = next[1]?.kind === "edited" ? next[1].words : [];
		expect(words.filter((piece) => piece.kind !== "same").map((piece) => piece.text)).toEqual(["88", "89"]);
		expect(counted(next)).toBe("1 edited, 1 kept, 1 gone");
	});

	it("takes another text for another message", () => {
		const other = said("user", "Hello there");
		const next = seen({ prompt: { base: 2, keep: 1, new: [] }, messages: [SYSTEM, other] }, [SYSTEM, ASKED]);
		expect(next.map((one) => one.kind)).toEqual(["kept", "new", "gone"]);
	});
});

it("reads contents of any shape, and names what is no text", () => {
	expect(textOf([{ type: "text", text: "a" }, { type: "image", data: "x".repeat(2_000) }])).toBe("a\n[image, 2.0 KB]");
	expect(textOf(null)).toBe("");
	expect(textOf({ odd: 1 })).toBe('{"odd":1}');
	expect([312, 4_100, 5_242_880].map(sizeOf)).toEqual(["312 B", "4.1 KB", "5.2 MB"]);
});
