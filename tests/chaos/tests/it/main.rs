//! A short run of chaos against the built `mesh` program, with every kind of fault: the long ones are `cargo xtask chaos`.

use chaos::options::Options;
use clap::Parser as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_short_run_of_random_kills_freezes_and_cuts_leaves_everything_right() {
    let arguments = [
        "chaos",
        "--seed",
        "4",
        "--seconds",
        "12",
        "--invocations",
        "150",
        "--settle",
        "45",
        "--json",
    ];
    // What a build lacks is not asked for: `--with` alone is noop and llm agents, channels, delays and cancels.
    let options = Options::parse_from(arguments.into_iter().chain(["--with"]));
    let report = chaos::run(&options).await.unwrap();
    let run = &report.runs[0];
    assert!(run.violations.is_empty(), "{run}");
    assert!(report.injections >= 5, "{run}");
    assert_eq!(run.figures.accepted, 150, "{run}");
    assert!(run.broken.is_empty(), "{run}");
}
