//! What all parts of one run share: time, chance, the database, the outside world, who lives, and what went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_types::{Id, InvocationId, Timestamp};
use tokio::time::Instant;

use super::bugs::Bug;
use super::check::Promises;
use super::clock::SimClock;
use super::database::Database;
use super::group::Group;
use super::inbox::Inbox;
use super::node::Node;
use super::outside::Ledger;
use super::process::Process;
use super::registry::Registry;
use super::rng::Rng;
use mesh_types::Clock;

/// One run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) seed: u64,
    pub(super) invocations: u64,
    pub(super) bug: Option<Bug>,
    /// Keeps the events as text.
    pub(super) trace: bool,
}

/// How often things go wrong, of a thousand; a seed has some kinds of faults and not others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Odds {
    /// A statement's answer is lost before, or after the commit, or its commit comes later.
    pub(super) cut: u64,
    pub(super) deadlock: u64,
    pub(super) slow: u64,
    /// The process dies at a statement.
    pub(super) killed_at_commit: u64,
    /// A message on the network is lost.
    pub(super) lost: u64,
    pub(super) late: u64,
    /// A worker dies, or freezes, around an effect.
    pub(super) killed_at_effect: u64,
    pub(super) frozen_at_effect: u64,
    /// An effect, or a model, fails.
    pub(super) failing: u64,
    pub(super) redelivered: u64,
}

pub(super) struct Sim {
    pub(super) options: Options,
    pub(super) started: Instant,
    rng: Mutex<Rng>,
    odds: Mutex<Odds>,
    database: Mutex<Database>,
    pub(super) registry: Registry,
    inbox: Mutex<Inbox>,
    ledger: Mutex<Ledger>,
    processes: Mutex<BTreeMap<Arc<str>, Arc<Process>>>,
    nodes: Mutex<BTreeMap<Arc<str>, Arc<Node>>>,
    /// Clients, operators, faults, and statements that outlive their connection.
    pub(super) outside: Arc<Group>,
    /// A clock that is right.
    pub(super) clock: Arc<SimClock>,
    /// Faults are over.
    is_calm: AtomicBool,
    incarnations: AtomicU64,
    pub(super) ids: AtomicU64,
    promises: Mutex<Promises>,
    violations: Mutex<Vec<String>>,
    trace: Mutex<Trace>,
}

#[derive(Debug, Default)]
struct Trace {
    hash: u64,
    events: u64,
    lines: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    pub(super) fn new(options: Options) -> Arc<Self> {
        let started = Instant::now();
        let mut rng = Rng::new(options.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5eed);
        let odds = Odds::draw(&mut rng);
        Arc::new(Self {
            options,
            started,
            rng: Mutex::new(rng),
            odds: Mutex::new(odds),
            database: Mutex::new(Database::new(options.bug)),
            registry: Registry::new(),
            inbox: Mutex::default(),
            ledger: Mutex::default(),
            processes: Mutex::default(),
            nodes: Mutex::default(),
            outside: Group::new(),
            clock: SimClock::new(started, 0),
            is_calm: AtomicBool::new(false),
            incarnations: AtomicU64::new(1),
            ids: AtomicU64::new(1),
            promises: Mutex::default(),
            violations: Mutex::default(),
            trace: Mutex::default(),
        })
    }

    pub(super) fn database(&self) -> MutexGuard<'_, Database> {
        lock(&self.database)
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        lock(&self.inbox)
    }

    pub(super) fn promises(&self) -> MutexGuard<'_, Promises> {
        lock(&self.promises)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(super) fn processes(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Process>>> {
        lock(&self.processes)
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Node>>> {
        lock(&self.nodes)
    }

    pub(super) fn process(&self, name: &str) -> Option<Arc<Process>> {
        let found = self.processes().get(name).cloned();
        found.filter(|process| !process.group.is_dead())
    }

    /// One that serves, by chance.
    pub(super) fn some_process(&self) -> Option<Arc<Process>> {
        let alive: Vec<_> = self.processes().values().cloned().collect();
        let alive: Vec<_> = alive.into_iter().filter(|process| process.group.is_running()).collect();
        let at = self.below(alive.len() as u64);
        alive.get(usize::try_from(at).unwrap_or(0)).cloned()
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.options.bug == Some(bug)
    }

    pub(super) fn odds(&self) -> Odds {
        *lock(&self.odds)
    }

    pub(super) fn calm(&self) {
        *lock(&self.odds) = Odds::default();
        self.is_calm.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    pub(super) fn next_incarnation(&self) -> u64 {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        lock(&self.rng).below(bound)
    }

    pub(super) fn chance(&self, permille: u64) -> bool {
        permille > 0 && lock(&self.rng).chance(permille)
    }

    pub(super) fn millis(&self, from: u64, to: u64) -> Duration {
        lock(&self.rng).millis(from, to)
    }

    pub(super) async fn pause(&self, from_ms: u64, to_ms: u64) {
        let pause = self.millis(from_ms, to_ms);
        tokio::time::sleep(pause).await;
    }

    /// A message on the network; `false`: it is lost.
    pub(super) async fn hop(&self) -> bool {
        let odds = self.odds();
        if self.chance(odds.late) {
            self.pause(50, 2_500).await;
        } else {
            self.pause(0, 2).await;
        }
        !self.chance(odds.lost)
    }

    pub(super) fn next_id(&self, at: Timestamp) -> InvocationId {
        let (high, low) = {
            let mut rng = lock(&self.rng);
            (rng.next(), rng.next())
        };
        InvocationId::new(at, (u128::from(high) << 64) | u128::from(low))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A rule is broken.
    pub(super) fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        let at = self.started.elapsed();
        self.event("violation", 0, || text.clone());
        lock(&self.violations).push(format!("{at:?} {text}"));
    }

    pub(super) fn violations(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *lock(&self.violations));
        all.append(&mut self.database().violations);
        all
    }

    pub(super) fn is_violated(&self) -> bool {
        !lock(&self.violations).is_empty() || !self.database().violations.is_empty()
    }

    /// Something that the same seed must do again, at the same time.
    pub(super) fn event(&self, kind: &'static str, number: u128, text: impl FnOnce() -> String) {
        let mut trace = lock(&self.trace);
        let at = self.started.elapsed().as_micros();
        let mut hash = trace.hash;
        let bytes = kind.bytes().chain(number.to_be_bytes()).chain(at.to_be_bytes());
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        trace.hash = hash;
        trace.events += 1;
        if self.options.trace {
            let line = format!("{:>12.6} {kind} {}", at as f64 / 1e6, text());
            trace.lines.push(line);
        }
    }

    /// Hash and number of all events.
    pub(super) fn trace(&self) -> (u64, u64, Vec<String>) {
        let mut trace = lock(&self.trace);
        (trace.hash, trace.events, std::mem::take(&mut trace.lines))
    }
}

impl Odds {
    fn draw(rng: &mut Rng) -> Self {
        let mut some = |most: u64| if rng.chance(600) { rng.below(most) + 1 } else { 0 };
        Self {
            cut: some(60),
            deadlock: some(40),
            slow: some(60),
            killed_at_commit: some(6),
            lost: some(60),
            late: some(60),
            killed_at_effect: some(25),
            frozen_at_effect: some(25),
            failing: some(120),
            redelivered: some(150),
        }
    }
}
