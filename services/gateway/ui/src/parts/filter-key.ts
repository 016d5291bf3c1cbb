/** `/` goes to the field that filters the page. */
import { type RefObject, useRef } from "react";
import { useKey } from "../app/keys";

export function useFilterKey(): RefObject<HTMLInputElement | null> {
	const field = useRef<HTMLInputElement>(null);
	useKey("/", "filter", () => field.current?.focus());
	return field;
}
