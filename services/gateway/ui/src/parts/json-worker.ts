/** Indexes large JSON beside the page. */
import { answer } from "./beside";
import { indexJson } from "./json-index";

answer(indexJson, (cells) => [cells.buffer]);
