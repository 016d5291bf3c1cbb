/** The web UI of Agent Mesh. */
import "@mantine/core/styles.css";
import "./theme/global.css";
import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { nonce } from "./app/nonce";
import { queries } from "./app/queries";
import { router } from "./app/router";
import { begin, session } from "./app/session";
import { beginLive, endLive } from "./live/live";
import { resolver, theme } from "./theme/theme";

/** The socket is there while somebody is. */
function follow(): void {
	let wasHere = false;
	const look = () => {
		const isHere = session.get().kind === "here";
		if (isHere === wasHere) return;
		wasHere = isHere;
		if (isHere) return beginLive();
		// What one person read is not there for the next one.
		queries.clear();
		endLive();
	};
	session.subscribe(look);
	look();
}

const root = document.getElementById("root");
if (root) {
	follow();
	void router.load().then(begin);
	createRoot(root).render(
		<StrictMode>
			<MantineProvider
				theme={theme}
				cssVariablesResolver={resolver}
				defaultColorScheme="auto"
				getStyleNonce={() => nonce}
			>
				<QueryClientProvider client={queries}>
					<RouterProvider router={router} />
				</QueryClientProvider>
			</MantineProvider>
		</StrictMode>,
	);
}
