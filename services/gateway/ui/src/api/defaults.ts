/** Request bodies whose defaults are left to the server: the generated types demand every field that has one. */

type Loose<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: Loose<T[K]> } : T;

/** `T` with what is left out taken from the server's defaults. */
export function withDefaults<T>(said: Loose<T>): T {
	return said as T;
}
