/** Server-sent events, read from a body as it comes: the name, the data, the id of each. */

export interface ServerEvent {
	readonly id: string;
	readonly event: string;
	readonly data: string;
}

/** Splits what came into events and the rest, which is the beginning of the next one. */
export function split(buffer: string): { events: ServerEvent[]; rest: string } {
	const parts = buffer.replaceAll("\r\n", "\n").split("\n\n");
	const rest = parts.pop() ?? "";
	return { events: parts.map(read).filter((one) => one.data !== ""), rest };
}

function read(part: string): ServerEvent {
	let [id, event] = ["", "message"];
	const data: string[] = [];
	for (const line of part.split("\n")) {
		const colon = line.indexOf(":");
		if (colon <= 0) continue;
		const value = line.slice(colon + 1).replace(/^ /, "");
		switch (line.slice(0, colon)) {
			case "id":
				id = value;
				break;
			case "event":
				event = value;
				break;
			case "data":
				data.push(value);
				break;
		}
	}
	return { id, event, data: data.join("\n") };
}

export async function readEvents(response: Response, heard: (event: ServerEvent) => void): Promise<void> {
	const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
	if (!reader) return;
	let buffer = "";
	for (;;) {
		const { value, done } = await reader.read();
		if (done) return;
		const { events, rest } = split(buffer + value);
		buffer = rest;
		for (const event of events) heard(event);
	}
}
