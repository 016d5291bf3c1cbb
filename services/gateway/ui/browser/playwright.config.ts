/** Tests of the UI in a real browser, against a mesh that the run starts and ends itself. `npm run browser`. */
// Which test holds which of the UI's acceptance checks; its number stands at the beginning of the test's name.
//
//  1 fits at both widths, both themes   pages       14 a result of 5 MB                  recordings
//  2 axe, dialogs too                   all         15 numbers as they were written      recordings
//  3 contrasts of the tokens            a unit test 16 tokens, tries that are void       live
//  4 states in shades of grey           marks       17 a fork's preview is its ledger    forks
//  5 the URL is the state               pages       18 a comparison at 6                 forks
//  6 Back restores                      invocations 19 a wait of two hours               recordings
//  7 100,000 rows                       invocations 20 a killed node                     fleet
//  8 events, the read row stays         invocations 21 dry runs change nothing           fleet
//  9 selection and focus survive        invocations 22 a bad field, comments survive     editor
// 10 nothing sent while nothing happens pages       23 by keyboard alone                 fleet
// 11 cut and back                       shell       24 a hostile model                   hostile
// 12 one failing pane                   shell       25 first load, policy; no console
// 13 10,000 steps                       recordings     error in any test               shell, all
import { defineConfig } from "@playwright/test";
import { chromium } from "./support/chromium";

export default defineConfig({
	testDir: ".",
	testMatch: "*.spec.ts",
	outputDir: "../test-results",
	globalSetup: "./support/setup.ts",
	// Browsers, mesh and its database share the machine with each other.
	workers: 2,
	fullyParallel: true,
	forbidOnly: process.env.CI !== undefined,
	// Of 226 tests on a machine that does other things too, one now and then meets a moment that it did not foresee. The
	// reporter lists it, with what it said, and fails the run when there are more than two.
	retries: process.env.CI === undefined ? 0 : 1,
	timeout: 90_000,
	expect: { timeout: 20_000 },
	reporter: [["list"], ["./support/reporter.ts"]],
	use: {
		launchOptions: {
			executablePath: chromium(),
			args: [
				"--no-sandbox",
				"--disable-gpu",
				"--disable-dev-shm-usage",
				"--disable-background-networking",
				"--disable-component-update",
				"--disable-sync",
				"--no-first-run",
			],
		},
		locale: "en-GB",
		timezoneId: "UTC",
		// Contrasts are measured of what stands still.
		contextOptions: { reducedMotion: "reduce" },
		trace: "off",
		screenshot: "only-on-failure",
	},
	projects: [
		{ name: "wide", testIgnore: "lockout.spec.ts", use: { viewport: { width: 1440, height: 900 } } },
		{
			name: "narrow",
			testIgnore: "lockout.spec.ts",
			// What belongs to a keyboard, and what is the same at any width and takes long.
			grepInvert: /@(keyboard|wide)/,
			use: { viewport: { width: 390, height: 844 }, hasTouch: true },
		},
		{ name: "last", testMatch: "lockout.spec.ts", dependencies: ["wide", "narrow"] },
	],
});
