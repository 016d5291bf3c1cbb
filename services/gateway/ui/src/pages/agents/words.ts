/** Counting in words. */

/** `1 replica`, `41 replicas`. */
export function counted(count: number, one: string): string {
	return `${count.toLocaleString("en")} ${count === 1 ? one : `${one}s`}`;
}
