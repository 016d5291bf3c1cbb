//! `cargo xtask test`: one table of steps. All run even when one fails, except what needs the one
//! that failed; every check and every test counts as one in the closing line.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mesh_servers::{EmbedderWeights, Found, Tools, processes_with_environment};

use crate::checkout::Checkout;
use crate::counts::Counts;
use crate::report::Report;
use crate::{bans, compile, grafana, programs, tidy, ui};

/// What ended servers get to be gone from the list of processes.
const LEFT_BEHIND_GRACE: Duration = Duration::from_secs(5);

type Work = fn(&Checkout, Option<&str>) -> anyhow::Result<Counts>;

struct Step {
    name: &'static str,
    /// Whether it also runs when only some tests are asked for.
    scope: Scope,
    /// A step without which this one makes no sense.
    needs: Option<&'static str>,
    work: Work,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Always,
    EverythingOnly,
}

/// In this order. Checks of generated files (`gen --check`) have their place before `clippy`.
const STEPS: [Step; 12] = [
    step("components", Scope::EverythingOnly, None, |_, _| {
        one(programs::require_components())
    }),
    step("tidy", Scope::EverythingOnly, None, |checkout, _| {
        one(tidy::run(checkout))
    }),
    step("deny", Scope::EverythingOnly, None, |checkout, _| {
        one(bans::run(checkout))
    }),
    step("fmt", Scope::EverythingOnly, None, |checkout, _| one(fmt(checkout))),
    step("clippy", Scope::EverythingOnly, None, |checkout, _| {
        one(clippy(checkout))
    }),
    // Once, before many tests would each want to download.
    step("servers", Scope::Always, None, |_, _| one(servers())),
    step("grafana", Scope::EverythingOnly, None, |checkout, _| {
        one(grafana::check(checkout))
    }),
    step("ui", Scope::EverythingOnly, None, |checkout, _| one(ui::test(checkout))),
    step("build", Scope::Always, None, |checkout, _| one(build(checkout))),
    step("tests", Scope::Always, Some("build"), tests),
    step("browser", Scope::EverythingOnly, Some("build"), |checkout, _| {
        ui::browse(checkout)
    }),
    step("nothing left behind", Scope::Always, None, |checkout, _| {
        one(left_behind(checkout))
    }),
];

const fn step(name: &'static str, scope: Scope, needs: Option<&'static str>, work: Work) -> Step {
    Step {
        name,
        scope,
        needs,
        work,
    }
}

struct Done {
    name: &'static str,
    seconds: f64,
    verdict: &'static str,
}

/// Runs the steps, then prints their times and `N passed, N failed`.
pub(crate) fn run(checkout: &Checkout, filter: Option<&str>) -> Counts {
    let (done, counts) = run_steps(&STEPS, checkout, filter);
    println!();
    for one in &done {
        println!("{:20} {:7} {:8.1} s", one.name, one.verdict, one.seconds);
    }
    println!("{} passed, {} failed", counts.passed, counts.failed);
    counts
}

fn run_steps(steps: &[Step], checkout: &Checkout, filter: Option<&str>) -> (Vec<Done>, Counts) {
    let (mut done, mut counts): (Vec<Done>, _) = (Vec::new(), Counts::default());
    for step in steps {
        if filter.is_some() && step.scope == Scope::EverythingOnly {
            continue;
        }
        let lacks = |needed| done.iter().any(|one| one.name == needed && one.verdict != "ok");
        if step.needs.is_some_and(lacks) {
            // What it needed is counted as failed.
            done.push(Done {
                name: step.name,
                seconds: 0.0,
                verdict: "not run",
            });
            continue;
        }
        println!("\n== {}", step.name);
        let began = Instant::now();
        let outcome = (step.work)(checkout, filter).unwrap_or_else(|error| {
            println!("{}: {error:#}", step.name);
            Counts { passed: 0, failed: 1 }
        });
        counts += outcome;
        let verdict = if outcome.failed == 0 { "ok" } else { "FAILED" };
        done.push(Done {
            name: step.name,
            seconds: began.elapsed().as_secs_f64(),
            verdict,
        });
    }
    (done, counts)
}

/// A check counts as one test.
fn one(outcome: anyhow::Result<()>) -> anyhow::Result<Counts> {
    outcome.map(|()| Counts { passed: 1, failed: 0 })
}

fn fmt(checkout: &Checkout) -> anyhow::Result<()> {
    let status = checkout.cargo().args(["fmt", "--all", "--", "--check"]).status()?;
    if !status.success() {
        bail!("`cargo fmt --all` changes something");
    }
    Ok(())
}

fn clippy(checkout: &Checkout) -> anyhow::Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    let status = checkout.cargo().args(arguments).status()?;
    if !status.success() {
        bail!("clippy has complaints");
    }
    Ok(())
}

fn servers() -> anyhow::Result<()> {
    let mut report = Report::new("servers", 0);
    let tools = Tools::resolve(&mut report)?;
    let weights = EmbedderWeights::resolve(&mut report)?;
    println!("nats-server {}: {}", tools.nats.version, tools.nats.program.display());
    println!("postgres {}: {}", tools.postgres.version, tools.postgres.bin.display());
    println!("weights: {}", weights.folder.display());
    Ok(())
}

/// The end-to-end tests drive the `mesh` program, which `cargo test` alone would not build.
fn build(checkout: &Checkout) -> anyhow::Result<()> {
    compile::run(
        checkout,
        "bins",
        "building the programs",
        &["build", "--workspace", "--bins"],
    )?;
    let tests = ["test", "--workspace", "--no-run"];
    compile::run(checkout, "tests", "building the tests", &tests).map(|_| ())
}

fn tests(checkout: &Checkout, filter: Option<&str>) -> anyhow::Result<Counts> {
    let mut command = checkout.cargo();
    if programs::has_nextest() {
        command.args(["nextest", "run", "--workspace", "--no-tests", "pass"]);
        command.args(filter);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast"]);
        command.args(filter);
    }
    // The summaries of cargo test are on stdout, those of nextest on stderr.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let stderr = child.stderr.take().context("cargo has no stderr")?;
    let other = thread::spawn(move || echo(BufReader::new(stderr), |line| eprintln!("{line}")));
    let mut counts = echo(BufReader::new(stdout), |line| println!("{line}"));
    counts += other.join().ok().context("reading the tests' output failed")?;
    if !child.wait()?.success() && counts.failed == 0 {
        // A test program that ended without a summary.
        counts.failed = 1;
    }
    if counts == Counts::default() {
        bail!("no test was run");
    }
    Ok(counts)
}

/// Passes lines on and adds up what summaries among them say.
fn echo(reader: impl BufRead, print: impl Fn(&str)) -> Counts {
    let mut counts = Counts::default();
    for line in reader.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        print(&line);
        counts += Counts::of_line(&line).unwrap_or_default();
    }
    counts
}

/// Everything we started carries our mark, however deep; what still lives is named and ended.
fn left_behind(checkout: &Checkout) -> anyhow::Result<()> {
    let mark = checkout.mark();
    let end = Instant::now() + LEFT_BEHIND_GRACE;
    let left: Vec<Found> = loop {
        let Some(found) = processes_with_environment(&mark) else {
            println!("not checked: this system does not tell the environment of a process");
            return Ok(());
        };
        if found.is_empty() || Instant::now() >= end {
            break found;
        }
        thread::sleep(Duration::from_millis(50));
    };
    for found in &left {
        println!("left behind: {} {}", found.pid, found.arguments.join(" "));
        found.stop()?;
    }
    if !left.is_empty() {
        bail!("{} processes were left behind, and have been ended now", left.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Work = |_, _| one(Ok(()));
    const BAD: Work = |_, _| bail!("bad");

    #[test]
    fn a_failed_step_fails_the_run_and_what_needs_it_does_not_run() {
        let steps = [
            step("a", Scope::Always, None, OK),
            step("build", Scope::Always, None, BAD),
            step("tests", Scope::Always, Some("build"), OK),
            step("z", Scope::EverythingOnly, None, OK),
        ];
        let checkout = Checkout::find().unwrap();
        let (done, counts) = run_steps(&steps, &checkout, None);
        assert_eq!(counts, Counts { passed: 2, failed: 1 });
        let verdicts: Vec<_> = done.iter().map(|one| (one.name, one.verdict)).collect();
        let wanted = [("a", "ok"), ("build", "FAILED"), ("tests", "not run"), ("z", "ok")];
        assert_eq!(verdicts, wanted);
        let (done, _) = run_steps(&steps, &checkout, Some("x"));
        assert!(done.iter().all(|one| one.name != "z"));
    }

    #[test]
    fn summaries_are_added_up_and_lines_passed_on() {
        let text = "running 2 tests\ntest result: ok. 2 passed; 0 failed;\n\
                    test result: FAILED. 1 passed; 1 failed;\n";
        let lines = std::cell::RefCell::new(0);
        let counts = echo(text.as_bytes(), |_| *lines.borrow_mut() += 1);
        assert_eq!((counts, lines.into_inner()), (Counts { passed: 3, failed: 1 }, 3));
    }

    #[test]
    fn a_process_left_behind_is_found_and_ended() {
        // Other tests of this process start commands of the checkout too.
        let checkout = Checkout::find().unwrap().marked("left-behind");
        let mut child = checkout.command("sleep").arg("600").spawn().unwrap();
        // A process is started a moment before the system tells its environment.
        let end = Instant::now() + LEFT_BEHIND_GRACE;
        while processes_with_environment(&checkout.mark()).is_some_and(|found| found.is_empty()) && Instant::now() < end
        {
            thread::sleep(Duration::from_millis(5));
        }
        let error = left_behind(&checkout).unwrap_err();
        assert!(error.to_string().contains("1 processes"), "{error}");
        assert!(!child.wait().unwrap().success());
        left_behind(&checkout).unwrap();
    }
}
