import { expect, it } from "vitest";
import { line } from "./spark";

it("draws from the foot to the top and keeps within", () => {
	expect(line([0, 50, 200], 100, 40, 10)).toBe("0.0,10.0 20.0,5.0 40.0,0.0");
	expect(line([100], 100, 40, 10)).toBe("0.0,0.0 40.0,0.0");
});
