/** What is left when no part of the page is: what failed, and the way on. */
import type { ReactNode } from "react";
import { Trouble } from "../parts/pane";

export function Broken({ error, reset }: { error: unknown; reset: () => void }): ReactNode {
	return (
		<main style={{ padding: "2rem", maxWidth: "40rem", margin: "0 auto" }}>
			<h1>This page failed</h1>
			<Trouble error={error} retry={reset} />
		</main>
	);
}
