/** Amounts of money in few characters. */

/** `$0.021`, `$1.83`, `$0`; below a tenth of a cent two digits that count. */
export function money(usd: number): string {
	if (usd === 0) return "$0";
	if (usd >= 1) return `$${usd.toFixed(2)}`;
	if (usd >= 0.001) return `$${usd.toFixed(3)}`;
	return `$${usd.toPrecision(2)}`;
}
