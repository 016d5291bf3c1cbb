/** Mantine's theme and the CSS variables of our own, both from the tokens. */
import {
	type CSSVariablesResolver,
	createTheme,
	defaultVariantColorsResolver,
	type MantineColorsTuple,
} from "@mantine/core";
import { dark, light, type Palette } from "./tokens";

/** Ten shades that Mantine asks for; the two that are used are the accents of the themes. */
const accent: MantineColorsTuple = [
	"#edf4fd",
	"#d6e5fa",
	"#b3d0fb",
	"#7fb3ff",
	"#5c9cf5",
	"#3c82e3",
	"#1a5cc0",
	"#174fa5",
	"#13428a",
	"#0f356f",
];

export const theme = createTheme({
	fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif',
	fontFamilyMonospace: 'ui-monospace, "SF Mono", Menlo, Consolas, monospace',
	fontSizes: { xs: "0.6875rem", sm: "0.8125rem", md: "0.8125rem", lg: "0.9375rem", xl: "1.125rem" },
	lineHeights: { xs: "1rem", sm: "1.25rem", md: "1.25rem", lg: "1.375rem", xl: "1.5rem" },
	spacing: { xs: "0.25rem", sm: "0.5rem", md: "0.75rem", lg: "1rem", xl: "1.5rem" },
	primaryColor: "accent",
	primaryShade: { light: 6, dark: 3 },
	autoContrast: true,
	// Of two shades of one colour Mantine knows the contrast of the light theme's only.
	variantColorResolver: (input) => {
		const own = defaultVariantColorsResolver(input);
		const isAccent = input.variant === "filled" && (input.color ?? "accent") === "accent";
		return isAccent ? { ...own, color: "var(--canvas)" } : own;
	},
	colors: { accent },
	defaultRadius: "sm",
	respectReducedMotion: true,
	focusRing: "auto",
	components: {
		Alert: { defaultProps: { closeButtonLabel: "Close" } },
		Drawer: { defaultProps: { closeButtonProps: { "aria-label": "Close" } } },
		Modal: { defaultProps: { closeButtonProps: { "aria-label": "Close" } } },
	},
});

function variables(palette: Palette): Record<string, string> {
	const own = Object.entries(palette).map(([name, value]) => [`--${name}`, value] as const);
	return {
		...Object.fromEntries(own),
		"--mantine-color-body": palette.canvas,
		"--mantine-color-text": palette.text,
		"--mantine-color-dimmed": palette.dim,
		"--mantine-color-default": palette.surface,
		"--mantine-color-default-border": palette.edge,
		"--mantine-color-error": palette.failed,
		"--mantine-color-placeholder": palette.dim,
		"--mantine-color-anchor": palette.accent,
	};
}

export const resolver: CSSVariablesResolver = () => ({
	variables: {},
	// Edges of inputs, which Mantine takes from its own greys: too faint for a control.
	light: { ...variables(light), "--mantine-color-gray-4": light.edge },
	dark: { ...variables(dark), "--mantine-color-dark-4": dark.edge, "--mantine-color-dark-6": dark.surface },
});
