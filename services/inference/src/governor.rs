//! Whether a call may be made now: the breaker of its provider, its turn in the provider's line, its tenant's bounds.
//! What `limits` and `breaker` decide as pure state happens here: locks, waiting, clocks, metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_models::TryError;
use mesh_runtime::metrics::{Counter, Gauge};
use mesh_runtime::{MetricName, Metrics};
use mesh_types::{Clock, Code, Problem, Tenant, Timestamp};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::breaker::{Breaker, Closure, Outcome, Pass, Why};
use crate::config::Config;
use crate::limits::{Line, Place, Spent};

/// Why a call may not be made now. Its text is journaled and shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refused {
    /// Nothing passes to the provider before `until`; `at` says the same on the wall's clock.
    Resting {
        provider: String,
        until: Instant,
        at: Timestamp,
        why: Why,
    },
    /// Its bounds, or the tenant's, are reached for longer than the call may wait.
    Busy { provider: String, moves_in: Duration },
}

impl Refused {
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Resting { at, why, .. } => {
                let why = match why {
                    Why::Asked => "it asked for a pause",
                    Why::Failing => "it failed too often",
                    Why::Probed => "it failed too often, and another call tries it now",
                };
                format!("provider-resting until {at}: {why}")
            }
            Self::Busy { provider, .. } => {
                format!("provider-busy: the calls that `{provider}` or this tenant may make are used up")
            }
        }
    }

    /// When asking again makes sense.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        match self {
            Self::Resting { until, .. } => until.saturating_duration_since(now),
            Self::Busy { moves_in, .. } => *moves_in,
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let seconds = whole_seconds(refused.wait(Instant::now()));
        let mut problem = Self::new(Code::ModelBusy, refused.reason()).next(format!(
            "ask again in {seconds} s, name a fallback, or raise the bounds of `providers` and `tenants`"
        ));
        problem.retry_after_seconds = Some(seconds);
        problem
    }
}

/// Seconds to tell a caller: whole ones, at least one.
pub(crate) fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1_000).max(1)).unwrap_or(u32::MAX)
}

struct Shared {
    line: Mutex<Line<Turn>>,
    breakers: BTreeMap<String, Mutex<Breaker>>,
    queue_wait: Duration,
    /// A line moves by time alone earlier than was known.
    moved: Notify,
    clock: Arc<dyn Clock>,
    circuits: Gauge,
    waiting: Gauge,
    refusals: Counter,
}

/// One for all calls of the process. Clones share it.
#[derive(Clone)]
pub(crate) struct Governor(Arc<Shared>);

impl Governor {
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let names = config.all_providers().into_keys();
        let breakers = names.map(|name| (name, Mutex::new(Breaker::new(config.breaker.clone()))));
        Self(Arc::new(Shared {
            line: Mutex::new(Line::new(config)),
            breakers: breakers.collect(),
            queue_wait: Duration::from_millis(config.limits.queue_wait_ms),
            moved: Notify::new(),
            clock,
            circuits: metrics.gauge(MetricName::ModelCircuit),
            waiting: metrics.gauge(MetricName::ModelsWaiting),
            refusals: metrics.counter(MetricName::ModelRefusals),
        }))
    }

    /// Waits for the turn of one try at a provider, at most until `deadline`. `estimated_tokens` are input and output;
    /// [`Permit::settle`] corrects them.
    ///
    /// # Errors
    /// It may not be made in time: see [`Refused`], which is a [`Problem`] too.
    pub(crate) async fn admit(
        &self,
        provider: &str,
        tenant: &Tenant,
        estimated_tokens: u64,
        deadline: Instant,
    ) -> Result<Permit, Refused> {
        let admitted = self.wait(provider, tenant, estimated_tokens, deadline).await;
        if let Err(refused) = &admitted {
            let reason = match refused {
                Refused::Resting { .. } => "resting",
                Refused::Busy { .. } => "busy",
            };
            self.0.refusals.add(1, &[("provider", provider), ("reason", reason)]);
        }
        admitted
    }

    async fn wait(&self, provider: &str, tenant: &Tenant, tokens: u64, deadline: Instant) -> Result<Permit, Refused> {
        self.look(provider)?;
        let deadline = deadline.min(Instant::now() + self.0.queue_wait);
        let place = Place {
            provider: provider.to_owned(),
            tenant: tenant.clone(),
            tokens,
        };
        let (sender, turn) = oneshot::channel();
        let (joined, moves_at) = {
            let mut line = self.0.line();
            let joined = line.join(&place, sender);
            (joined, self.0.advance(&mut line, provider))
        };
        match joined {
            Some(Ok(())) => {}
            Some(Err(refusal)) => return Err(busy(provider, refusal.moves_at)),
            // What nobody declared has no bounds.
            None => return Ok(Permit::unbounded(self)),
        }
        if moves_at.is_some() {
            self.0.moved.notify_one();
        }
        let Some(mut turn) = first_or_deadline(turn, moves_at, deadline).await else {
            let moves_at = self.0.line().moves_at(provider);
            return Err(busy(provider, moves_at));
        };
        // While it waited, others may have learned that the provider is down.
        let pass = self
            .0
            .breaker(provider)
            .map(|mut breaker| breaker.admit(Instant::now()));
        match pass.transpose() {
            Ok(pass) => Ok(Permit { turn, pass }),
            Err(closure) => {
                turn.spent = Spent::Nothing;
                Err(self.resting(provider, closure))
            }
        }
    }

    /// Whether the provider takes calls as far as its breaker knows; a text that says why it does not.
    pub(crate) fn availability(&self, provider: &str) -> Result<(), String> {
        self.look(provider).map_err(|refused| refused.reason())
    }

    fn look(&self, provider: &str) -> Result<(), Refused> {
        let looked = self.0.breaker(provider).map(|breaker| breaker.look(Instant::now()));
        looked
            .unwrap_or(Ok(()))
            .map_err(|closure| self.resting(provider, closure))
    }

    fn resting(&self, provider: &str, closure: Closure) -> Refused {
        let left = closure.until.saturating_duration_since(Instant::now());
        Refused::Resting {
            provider: provider.to_owned(),
            until: closure.until,
            at: self.0.clock.now().plus(left),
            why: closure.why,
        }
    }

    /// Moves the lines when time alone lets them; never ends. One per governor, as long as it is asked.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next = self.0.advance_all();
            let moved = self.0.moved.notified();
            match next {
                Some(next) => {
                    tokio::select! {
                        () = sleep_until(next) => {}
                        () = moved => {}
                    }
                }
                None => moved.await,
            }
        }
    }
}

/// `None`: its turn does not come in time, which may be known before.
async fn first_or_deadline(
    mut turn: oneshot::Receiver<Turn>,
    moves_at: Option<Instant>,
    deadline: Instant,
) -> Option<Turn> {
    if let Ok(turn) = turn.try_recv() {
        return Some(turn);
    }
    if moves_at.is_some_and(|moves_at| moves_at > deadline) {
        return None;
    }
    timeout_at(deadline, turn).await.ok()?.ok()
}

fn busy(provider: &str, moves_at: Option<Instant>) -> Refused {
    let now = Instant::now();
    let moves_in = moves_at.map_or(Duration::from_secs(1), |at| at.saturating_duration_since(now));
    Refused::Busy {
        provider: provider.to_owned(),
        moves_in: moves_in.max(Duration::from_millis(100)),
    }
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line<Turn>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self, provider: &str) -> Option<MutexGuard<'_, Breaker>> {
        let breaker = self.breakers.get(provider)?;
        Some(breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn advance(self: &Arc<Self>, line: &mut Line<Turn>, provider: &str) -> Option<Instant> {
        let turn = |place| Turn {
            shared: Arc::clone(self),
            place: Some(place),
            spent: Spent::Guess,
        };
        // It took nothing yet, and must not come back here while the line is locked.
        let lost = |mut turn: Turn| turn.place = None;
        let moves_at = line.advance(provider, Instant::now(), turn, lost);
        let waiting = i64::try_from(line.waiting(provider)).unwrap_or(i64::MAX);
        self.waiting.set(waiting, &[("provider", provider)]);
        moves_at
    }

    fn advance_all(self: &Arc<Self>) -> Option<Instant> {
        let mut line = self.line();
        let awaited = line.awaited();
        let next = awaited.iter().filter_map(|provider| self.advance(&mut line, provider));
        next.min()
    }

    fn settle(&self, provider: &str, pass: Pass, outcome: Outcome) {
        let now = Instant::now();
        if let Some(mut breaker) = self.breaker(provider) {
            breaker.settle(pass, outcome, now);
            self.circuits.set(breaker.state(now) as i64, &[("provider", provider)]);
        }
    }
}

/// A turn in the line; dropping it lets the next one move up.
struct Turn {
    shared: Arc<Shared>,
    /// `None`: nothing was taken.
    place: Option<Place>,
    spent: Spent,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.shared.line().give_back(&place, self.spent);
            if self.shared.advance_all().is_some() {
                self.shared.moved.notify_one();
            }
        }
    }
}

/// One try that may be made now. Dropped without [`Permit::settle`] it says nothing of the provider.
pub(crate) struct Permit {
    turn: Turn,
    pass: Option<Pass>,
}

impl Permit {
    fn unbounded(governor: &Governor) -> Self {
        Self {
            turn: Turn {
                shared: Arc::clone(&governor.0),
                place: None,
                spent: Spent::Guess,
            },
            pass: None,
        }
    }

    /// The try is over: what it says of the provider, and the tokens (input and output) that it took, if that is known.
    pub(crate) fn settle(mut self, ended: Result<(), &TryError>, tokens: Option<u64>) {
        self.turn.spent = match (tokens, ended) {
            (Some(tokens), _) => Spent::Tokens(tokens),
            // Who refuses counts no tokens; of an answer that broke off nobody knows.
            (None, Err(TryError::Status { .. } | TryError::Connection(_))) => Spent::Tokens(0),
            (None, _) => Spent::Guess,
        };
        self.end(outcome(ended));
    }

    fn end(&mut self, outcome: Outcome) {
        if let (Some(pass), Some(place)) = (self.pass.take(), &self.turn.place) {
            self.turn.shared.settle(&place.provider, pass, outcome);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(Outcome::Unknown);
    }
}

/// What the end of a try says of its provider.
fn outcome(ended: Result<(), &TryError>) -> Outcome {
    match ended {
        Ok(()) => Outcome::Alive,
        Err(error) if error.is_transient() => error.retry_after().map_or(Outcome::Failed, Outcome::Resting),
        // Who refuses is there.
        Err(TryError::Status { .. }) => Outcome::Alive,
        Err(_) => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests;
