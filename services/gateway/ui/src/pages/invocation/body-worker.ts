/** Reads and cuts large pages of the API beside the page that shows them. */
import { answer } from "../../parts/beside";
import { type Body, bodyIn } from "./body";

answer(async (page: Blob): Promise<Body | null> => bodyIn(await page.text()));
