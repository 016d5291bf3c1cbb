//! One run of one seed, from an empty database to the last end; and many of them on all cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::bugs;
use super::world::{Options, Sim};
use super::{check, clients, faults, node, operators, process};

/// What is open after so much quiet time will never end.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(250);

/// What became of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub(super) seed: u64,
    /// Accepted, children and forks included.
    pub(super) invocations: u64,
    pub(super) commits: u64,
    pub(super) effects: u64,
    pub(super) events: u64,
    pub(super) hash: u64,
    /// Virtual time.
    pub(super) took: Duration,
    pub(super) violations: Vec<String>,
    pub(super) trace: Vec<String>,
}

/// On a runtime of its own, on this thread.
pub(super) fn run(options: Options) -> Outcome {
    bugs::plant(options.bug);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O always starts");
    let outcome = runtime.block_on(one(options));
    drop(runtime);
    bugs::plant(None);
    outcome
}

async fn one(options: Options) -> Outcome {
    let sim = Sim::new(options);
    for name in faults::PROCESSES {
        process::start(&sim, name);
    }
    for name in faults::NODES {
        node::start(&sim, name);
    }
    clients::send_all(&sim);
    let outside = &sim.outside;
    outside.spawn(operators::meddle(Arc::clone(&sim)));
    outside.spawn(operators::care(Arc::clone(&sim)));
    outside.spawn(faults::run(Arc::clone(&sim)));
    outside.spawn(faults::revive(Arc::clone(&sim)));
    outside.spawn(check::memory(Arc::clone(&sim)));
    watch(&sim).await;
    if !sim.is_violated() {
        check::at_the_end(&sim);
    }
    finish(&sim)
}

/// Until nothing is left to do, or a rule is broken.
async fn watch(sim: &Sim) {
    let mut calm_since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        if sim.is_violated() {
            return;
        }
        match calm_since {
            None if sim.started.elapsed() >= faults::ACTIVE => {
                faults::end(sim);
                calm_since = Some(Instant::now());
            }
            None => {}
            Some(_) if check::is_done(sim) => {
                // What is still on its way may come now.
                tokio::time::sleep(Duration::from_secs(3)).await;
                if check::is_done(sim) {
                    return;
                }
            }
            Some(since) if since.elapsed() > PATIENCE => {
                sim.violation(format!("left for ever: {}", check::leftovers(sim)));
                return;
            }
            Some(_) => {}
        }
    }
}

fn finish(sim: &Arc<Sim>) -> Outcome {
    let processes: Vec<_> = sim.processes().values().cloned().collect();
    let nodes: Vec<_> = sim.nodes().values().cloned().collect();
    let groups = processes.iter().map(|process| &process.group);
    let groups = groups.chain(nodes.iter().map(|node| &node.group)).chain([&sim.outside]);
    let panics: u64 = groups.clone().map(|group| group.panics()).sum();
    if panics > 0 {
        sim.violation(format!("{panics} tasks panicked"));
    }
    groups.for_each(|group| group.kill());
    let (hash, events, trace) = sim.trace();
    let violations = sim.violations();
    // What holds the world and is held by it.
    sim.processes().clear();
    sim.nodes().clear();
    let database = sim.database();
    Outcome {
        seed: sim.options.seed,
        invocations: database.invocations.len() as u64,
        commits: database.commits,
        effects: sim.ledger().performed,
        events,
        hash,
        took: sim.started.elapsed(),
        violations,
        trace,
    }
}

/// Sum of many runs.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    pub(super) runs: u64,
    pub(super) invocations: u64,
    pub(super) commits: u64,
    pub(super) effects: u64,
    pub(super) virtual_seconds: u64,
    /// Runs that broke a rule.
    pub(super) broken: Vec<Outcome>,
}

/// How much is to be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) first: u64,
    pub(super) seeds: u64,
    /// Over all runs: none starts any more when so many are simulated.
    pub(super) total: u64,
    /// Requests of each run.
    pub(super) each: u64,
    pub(super) threads: usize,
}

/// Runs that break a rule, after which no more are started.
const BROKEN_MAX: u64 = 10;

/// One seed after the other on each thread. `tell` hears of each run.
pub(super) fn campaign(plan: Plan, tell: impl Fn(&Outcome) + Sync) -> Campaign {
    let next = AtomicU64::new(plan.first);
    let (broken, simulated) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut done = Campaign::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_enough = seed >= plan.first.saturating_add(plan.seeds)
                || simulated.load(Ordering::Relaxed) >= plan.total
                || broken.load(Ordering::Relaxed) >= BROKEN_MAX;
            if is_enough {
                return done;
            }
            let outcome = run(Options {
                seed,
                invocations: plan.each,
                bug: None,
                trace: false,
            });
            tell(&outcome);
            simulated.fetch_add(outcome.invocations, Ordering::Relaxed);
            done.runs += 1;
            done.invocations += outcome.invocations;
            done.commits += outcome.commits;
            done.effects += outcome.effects;
            done.virtual_seconds += outcome.took.as_secs();
            if !outcome.violations.is_empty() {
                broken.fetch_add(1, Ordering::Relaxed);
                done.broken.push(outcome);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads).map(|_| scope.spawn(work)).collect();
        let mut all = Campaign::default();
        for thread in threads {
            let done = thread.join().expect("a run does not panic");
            all.runs += done.runs;
            all.invocations += done.invocations;
            all.commits += done.commits;
            all.effects += done.effects;
            all.virtual_seconds += done.virtual_seconds;
            all.broken.extend(done.broken);
        }
        all.broken.sort_by_key(|outcome| outcome.seed);
        all
    })
}
