/** A path that leads nowhere. */
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

export function Missing(): ReactNode {
	return (
		<main style={{ padding: "2rem", maxWidth: "40rem", margin: "0 auto" }}>
			<h1>There is no such page</h1>
			<p>The address may be mistyped, or what it named is gone.</p>
			<Link to="/t/$tenant" params={{ tenant: "default" }}>
				Overview of tenant default
			</Link>
		</main>
	);
}
