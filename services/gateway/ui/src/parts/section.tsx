/** A part of a page under a heading of its own, with its acts beside it; lists of facts; a link that looks like text. */
import type { ReactNode } from "react";
import css from "./section.module.css";

export function Section({
	title,
	aside,
	level = 2,
	children,
}: {
	title: string;
	aside?: ReactNode;
	level?: 1 | 2 | 3;
	children: ReactNode;
}): ReactNode {
	const Heading = `h${level}` as const;
	return (
		<section className={css.section} aria-label={title}>
			<div className={css.bar}>
				<Heading className={level === 1 ? css.title : css.heading}>{title}</Heading>
				{aside}
			</div>
			{children}
		</section>
	);
}

/** Name and value, one line each; what has no value is left out. */
export function Facts({ of }: { of: readonly (readonly [string, ReactNode])[] }): ReactNode {
	const known = of.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "");
	return (
		<dl className={css.facts}>
			{known.map(([name, value]) => (
				<div key={name}>
					<dt>{name}</dt>
					<dd>{value}</dd>
				</div>
			))}
		</dl>
	);
}
