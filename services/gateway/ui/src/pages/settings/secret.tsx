/** A secret that is shown this once. */
import type { ReactNode } from "react";
import { Copy } from "../../parts/command";
import css from "./settings.module.css";

export function Secret({ what, secret }: { what: string; secret: string }): ReactNode {
	return (
		<>
			<p>{what} is shown this once; only a hash of it is kept.</p>
			<p className={css.secret}>
				<code>{secret}</code>
				<Copy text={secret} what="the secret" />
			</p>
		</>
	);
}
