/** Sending a file with its progress, which `fetch` does not tell. */
import { askHeaders } from "../../api/upload";
import { Failure, type Problem } from "../../api/problem";
import type { Document } from "./knowledge";

const TYPES: Record<string, string> = {
	txt: "text/plain",
	md: "text/markdown",
	markdown: "text/markdown",
	html: "text/html",
	htm: "text/html",
	pdf: "application/pdf",
};

/** What the API takes; a browser does not know every ending. */
export function mediaType(name: string, said: string): string {
	const ending = name.toLowerCase().split(".").at(-1) ?? "";
	return TYPES[ending] ?? (Object.values(TYPES).includes(said) ? said : "text/plain");
}

/** `sent` hears the share that is on its way, 0 to 1. Fails with a `Failure`. */
export async function upload(path: string, file: File, type: string, sent: (share: number) => void): Promise<Document> {
	const headers = await askHeaders();
	return new Promise((resolve, reject) => {
		const request = new XMLHttpRequest();
		request.open("POST", path);
		for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
		request.setRequestHeader("Content-Type", type);
		request.upload.onprogress = (event) => event.lengthComputable && sent(event.loaded / event.total);
		request.upload.onload = () => sent(1);
		request.onerror = () => reject(Failure.unreachable(new Error("the upload was cut off")));
		request.onload = () => {
			const body = parsed(request.responseText);
			if (request.status >= 200 && request.status < 300) return resolve(body as Document);
			const id = request.getResponseHeader("x-request-id");
			const response = new Response(null, {
				status: request.status,
				statusText: request.statusText,
				headers: id === null ? {} : { "x-request-id": id },
			});
			reject(Failure.of(response, body as Partial<Problem> | undefined));
		};
		request.send(file);
	});
}

function parsed(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return undefined;
	}
}
