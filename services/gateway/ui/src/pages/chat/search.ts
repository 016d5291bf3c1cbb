/** The search part of this page's URL, checked: what is unknown or malformed is left out. */
import { given, texts } from "../../parts/search";

export interface ChatSearch {
	/** Who is talked with; in a channel, who answers. */
	agent?: string;
	session?: string;
	/** A machine that is talked with through its tunnel. */
	node?: string;
}

export function chatSearch(said: Record<string, unknown>): ChatSearch {
	return given<ChatSearch>(texts(said, ["agent", "session", "node"]) as ChatSearch);
}
