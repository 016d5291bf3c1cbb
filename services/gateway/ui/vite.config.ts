/// <reference types="vitest/config" />
/** How the UI is built: hashed files, packed beside themselves, with no path or host of the machine in them. */
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

// The mesh that `npm run dev` talks to; `mesh up` listens there.
const mesh = process.env.MESH_URL ?? "http://127.0.0.1:8000";
const here = dirname(fileURLToPath(import.meta.url));

/** Packs text once, when it is built, harder than a server would at each request. */
function pack(): Plugin {
	const index = join(here, "dist/index.html");
	const source = join(here, "../src/http/ui.rs");
	let folder = "";
	let wasBuilt = true;
	return {
		name: "pack",
		apply: "build",
		configResolved(config) {
			folder = join(config.root, config.build.outDir, "assets");
			wasBuilt = existsSync(index);
		},
		closeBundle() {
			for (const name of existsSync(folder) ? readdirSync(folder) : []) {
				if (!/\.(js|css|svg)$/.test(name)) continue;
				const bytes = readFileSync(join(folder, name));
				if (bytes.length < 512) continue;
				writeFileSync(join(folder, `${name}.gz`), gzipSync(bytes, { level: 9 }));
				const quality = { [constants.BROTLI_PARAM_QUALITY]: 11 };
				writeFileSync(join(folder, `${name}.br`), brotliCompressSync(bytes, { params: quality }));
			}
			// Cargo watches files that were embedded; of the very first build it hears by the source that embeds.
			// Where an image is built, the page has a stage without that source.
			const embeds = [index, source].every((file) => existsSync(file));
			if (!wasBuilt && embeds) utimesSync(source, new Date(), new Date());
		},
	};
}

export default defineConfig({
	plugins: [react(), pack()],
	build: { target: "es2023", sourcemap: false, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
	server: { proxy: { "/api": { target: mesh, ws: true }, "/health": mesh, "/internal": mesh, "/metrics": mesh } },
	preview: { proxy: { "/api": { target: mesh, ws: true }, "/health": mesh, "/internal": mesh, "/metrics": mesh } },
	test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});
