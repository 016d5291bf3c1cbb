//! A short set of seeds, the proof that planted bugs are found, and the long campaign of `cargo xtask simulate`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bugs::Bug;
use super::run::{Campaign, Outcome, Plan, campaign, run};
use super::world::Options;

/// Requests of one run; children, forks and tasks come on top.
const EACH: u64 = 30;

fn options(seed: u64) -> Options {
    Options {
        seed,
        invocations: EACH,
        bug: None,
        trace: false,
    }
}

#[test]
fn a_few_seeds_break_no_rule() {
    let plan = Plan {
        first: 1,
        seeds: 24,
        total: u64::MAX,
        each: EACH,
        threads: 2,
    };
    let done = campaign(plan, |_| {});
    for outcome in &done.broken {
        println!("seed {}: {:#?}", outcome.seed, outcome.violations);
    }
    assert!(done.broken.is_empty());
    assert!(done.invocations > 24 * EACH, "{} invocations", done.invocations);
    assert!(done.effects > 24 * 10, "{} effects", done.effects);
}

#[test]
fn a_seed_does_the_same_again() {
    for seed in [7, 8] {
        let (first, second) = (run(options(seed)), run(options(seed)));
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
        assert_ne!(first.hash, run(options(seed + 100)).hash);
    }
}

/// Seeds that a planted bug may take to be found.
const SEEDS: u64 = 100;

fn is_found(bug: Bug) -> bool {
    let found = (1..=SEEDS).find_map(|seed| {
        let outcome = run(Options {
            bug: Some(bug),
            ..options(seed)
        });
        let first = outcome.violations.into_iter().next()?;
        Some(format!("seed {seed}: {first:.160}"))
    });
    println!("{bug:?}: {found:?}");
    found.is_some()
}

#[test]
fn every_planted_bug_is_found() {
    let missed: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !is_found(*bug)).collect();
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `cargo xtask simulate` runs this one, and says how much: from seed MESH_SIM_SEED on, MESH_SIM_SEEDS of them or as
/// many as it takes to simulate MESH_SIM_INVOCATIONS. A single seed tells its events on stderr. The report goes to the
/// file MESH_SIM_REPORT.
#[test]
#[ignore = "long: run by `cargo xtask simulate`"]
fn simulate() {
    let total = number("MESH_SIM_INVOCATIONS");
    let plan = Plan {
        first: number("MESH_SIM_SEED").unwrap_or(1),
        seeds: number("MESH_SIM_SEEDS").unwrap_or(if total.is_some() { u64::MAX } else { 1_000 }),
        total: total.unwrap_or(u64::MAX),
        each: number("MESH_SIM_EACH").unwrap_or(EACH),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
    };
    if plan.seeds == 1 {
        let outcome = run(Options {
            seed: plan.first,
            invocations: plan.each,
            bug: std::env::var("MESH_SIM_BUG").ok().and_then(|name| Bug::named(&name)),
            trace: true,
        });
        outcome.trace.iter().for_each(|line| eprintln!("{line}"));
    }
    let started = Instant::now();
    let progress = Mutex::new((0_u64, 0_u64, started));
    let done = campaign(plan, |outcome| tell(&mut progress.lock().unwrap(), outcome));
    let report = report(&done, started.elapsed());
    match std::env::var("MESH_SIM_REPORT") {
        Ok(path) => std::fs::write(path, report.to_string()).unwrap(),
        Err(_) => println!("SIMULATION {report}"),
    }
    assert!(done.broken.is_empty(), "{} runs broke a rule", done.broken.len());
}

/// A line on stderr now and then, and one for each run that breaks a rule.
fn tell((runs, invocations, told): &mut (u64, u64, Instant), outcome: &Outcome) {
    *runs += 1;
    *invocations += outcome.invocations;
    for violation in &outcome.violations {
        eprintln!("seed {}: {violation}", outcome.seed);
    }
    if told.elapsed() > Duration::from_secs(10) {
        *told = Instant::now();
        eprintln!("{runs} runs, {invocations} invocations");
    }
}

fn report(done: &Campaign, took: Duration) -> serde_json::Value {
    let broken = done.broken.iter();
    let broken = broken.map(|outcome| json!({"seed": outcome.seed, "violations": outcome.violations}));
    json!({
        "runs": done.runs,
        "invocations": done.invocations,
        "commits": done.commits,
        "effects": done.effects,
        "virtual_seconds": done.virtual_seconds,
        "seconds": took.as_secs_f64(),
        "runs_per_minute": (done.runs as f64 / took.as_secs_f64() * 60.0).round(),
        "violations": broken.collect::<Vec<_>>(),
    })
}
