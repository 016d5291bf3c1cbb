/** Contrast of two colours as WCAG 2.2 defines it (relative luminance of sRGB). */

type Rgb = readonly [number, number, number];

export function rgb(hex: string): Rgb {
	const number = Number.parseInt(hex.slice(1), 16);
	return [(number >> 16) & 255, (number >> 8) & 255, number & 255];
}

/** `over` laid on `ground` with that opacity, 0 to 1. */
export function blend(over: string, ground: string, opacity: number): string {
	const [a, b] = [rgb(over), rgb(ground)];
	const mixed = a.map((value, index) => Math.round(value * opacity + (b[index] ?? 0) * (1 - opacity)));
	return `#${mixed.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

function luminance(hex: string): number {
	const [r, g, b] = rgb(hex).map((value) => {
		const share = value / 255;
		return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
	}) as unknown as Rgb;
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** 1 to 21. */
export function contrast(one: string, other: string): number {
	const [a, b] = [luminance(one), luminance(other)];
	return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
