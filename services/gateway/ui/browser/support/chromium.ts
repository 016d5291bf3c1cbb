/** Where the browser is: `CHROMIUM`, or the system's. Nothing is downloaded. */
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

export function chromium(): string {
	const given = process.env.CHROMIUM;
	if (given) return given;
	const folders = ["/usr/bin", ...(process.env.PATH ?? "").split(delimiter)];
	for (const path of folders.flatMap((folder) => NAMES.map((name) => join(folder, name)))) {
		try {
			accessSync(path, constants.X_OK);
			return path;
		} catch {
			// The next one.
		}
	}
	throw new Error("no Chromium: install it (Debian: apt-get install chromium) or name its program in CHROMIUM");
}
