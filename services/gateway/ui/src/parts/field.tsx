/** A fact with its name: `cost $.021`. In a `Fields` list it is a description list for readers of any kind. */
import type { ReactNode } from "react";
import css from "./small.module.css";

export function Fields({ children, label }: { children: ReactNode; label?: string }): ReactNode {
	return (
		<dl className={css.fields} aria-label={label}>
			{children}
		</dl>
	);
}

export function Field({ name, children }: { name: string; children: ReactNode }): ReactNode {
	return (
		<div className={css.field}>
			<dt>{name}</dt>
			<dd>{children}</dd>
		</div>
	);
}
