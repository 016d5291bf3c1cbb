//! The driver: commit what is known, run the next group, again. It decides nothing that the plan could decide.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use mesh_api::journal::{Done, Effect, Ended, Fact, Record};
use mesh_types::Problem;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::effects::{AppendError, Appended, Effects, Next, Then};
use crate::ends::failed;
use crate::forked::{Forked, edited_spec};
use crate::grant::{Finished, Grant, Task};
use crate::group::Steps;
use crate::plan::{Action, Plan};
use crate::steps::Bench;
use crate::traced;

/// Runs the invocation from where its journal stands to its end, unless it waits, is stopped or taken away.
/// Dropping the future at any point is as safe as a crash.
pub async fn run_invocation<E: Effects>(grant: Grant, effects: &E, cancel: CancellationToken) -> Finished {
    let mut span = traced::invocation(&grant);
    let finished = span.run(run(grant, effects, cancel)).await;
    traced::finished(&mut span, &finished);
    finished
}

async fn run<E: Effects>(grant: Grant, effects: &E, cancel: CancellationToken) -> Finished {
    let budget = Budget::new(&grant, effects.clock());
    let spec = edited_spec(&grant);
    let worker = Worker {
        bench: Bench {
            effects,
            grant: &grant,
            spec: &spec,
        },
        cancel: &cancel,
        budget,
        started: Mutex::default(),
    };
    let mut newer: Option<Vec<Record>> = None;
    let mut known = Vec::new();
    loop {
        let journal = newer.as_deref().unwrap_or(&grant.journal);
        match worker.drive(journal, std::mem::take(&mut known)).await {
            Ok(finished) | Err(Halt::Finished(finished)) => return finished,
            Err(Halt::Refused(problem)) => return worker.give_up(problem).await,
            // A conflict that brings no news would come again for ever.
            Err(Halt::Conflict { committed, .. }) if committed.len() <= journal.len() => {
                tracing::error!(invocation = %grant.invocation, "a conflict without a newer record");
                return Finished::Stale;
            }
            Err(Halt::Conflict { committed, lost }) => {
                newer = Some(committed);
                known = lost;
            }
        }
    }
}

/// Why the driver leaves its path.
pub(crate) enum Halt {
    Finished(Finished),
    Conflict {
        committed: Vec<Record>,
        /// Results of the append that was not taken, of steps that may have none yet.
        lost: Vec<Done>,
    },
    Refused(Box<Problem>),
}

impl Halt {
    pub(crate) fn new(error: AppendError, lost: Vec<Done>) -> Self {
        match error {
            AppendError::Stale => Self::Finished(Finished::Stale),
            AppendError::Cancelled { .. } => Self::Finished(Finished::Stopped),
            AppendError::Conflict { committed } => Self::Conflict { committed, lost },
            AppendError::Refused(problem) => Self::Refused(problem),
        }
    }
}

/// What a committed append comes to.
pub(crate) enum Answer {
    GoOn,
    /// The plan has changed.
    News,
    LetGo(Finished),
}

pub(crate) struct Worker<'a, E> {
    pub(crate) bench: Bench<'a, E>,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) budget: Budget,
    /// At_most_once steps whose effect this worker has started.
    pub(crate) started: Mutex<BTreeSet<u32>>,
}

impl<E: Effects> Worker<'_, E> {
    async fn drive(&self, journal: &[Record], known: Vec<Done>) -> Result<Finished, Halt> {
        let grant = self.bench.grant;
        let task = Task {
            spec: self.bench.spec,
            ..grant.task()
        };
        if journal.last().is_some_and(|record| record.epoch > grant.epoch) {
            // Claimed by somebody else before it was read: what has begun since is theirs to run.
            return Ok(Finished::Stale);
        }
        let mut plan = Plan::new(task, Forked::of(grant));
        let from_step = grant.fork.as_ref().map_or(0, |fork| fork.from_step);
        let read = plan.inherit(&grant.inherited, from_step);
        if let Err(action) = read.and_then(|()| plan.replay(journal)) {
            return self.instead(*action).await;
        }
        plan.claimed(grant.epoch);
        // Known, not yet committed.
        let mut facts = Vec::new();
        self.pick_up(&mut plan, &mut facts, known);
        loop {
            let steps = match plan.next(self.clock().now()) {
                Action::Run(steps) => steps,
                Action::End(ended) => return self.end(facts, ended).await,
                Action::Over(outcome) => return Ok(Finished::Ended(outcome)),
            };
            if self.cancel.is_cancelled() {
                return Ok(self.let_go(facts).await);
            }
            let finished = match steps {
                Steps::One(step) => self.one(&mut plan, &mut facts, step).await?,
                // Boxed: who runs one step after the other need not carry the room for many.
                Steps::Many(steps) => Box::pin(self.many(&mut plan, &mut facts, steps)).await?,
            };
            if let Some(finished) = finished {
                return Ok(finished);
            }
        }
    }

    /// After a conflict: results that are known stay known, and of an at_most_once effect that was dropped on the
    /// way nobody knows whether it happened, though it began under this very epoch.
    fn pick_up(&self, plan: &mut Plan<'_>, facts: &mut Vec<Fact>, known: Vec<Done>) {
        for done in known {
            if plan.is_open(done.step) {
                plan.apply(&done);
                facts.push(Fact::Done(Box::new(done)));
            }
        }
        for step in self.started().iter() {
            if plan.is_open(*step) {
                plan.mark_begun(*step, 0);
            }
        }
    }

    /// The journal says that the plan cannot go on.
    async fn instead(&self, action: Action) -> Result<Finished, Halt> {
        match action {
            Action::Over(outcome) => Ok(Finished::Ended(outcome)),
            Action::End(ended) => self.end(Vec::new(), ended).await,
            Action::Run(_) => Ok(Finished::Stopped),
        }
    }

    async fn end(&self, facts: Vec<Fact>, ended: Box<Ended>) -> Result<Finished, Halt> {
        let outcome = ended.outcome;
        let lost = precious(&facts);
        let answer = self.bench.effects.append(facts, Then::End(ended)).await;
        answer.map_err(|error| Halt::new(error, lost))?;
        Ok(Finished::Ended(outcome))
    }

    /// The journal refused records for what they hold: the invocation ends with that as its reason.
    async fn give_up(&self, problem: Box<Problem>) -> Finished {
        let ended = Box::new(failed((*problem).clone()));
        match self.end(Vec::new(), ended).await {
            Ok(finished) | Err(Halt::Finished(finished)) => finished,
            Err(Halt::Conflict { .. }) => Finished::Stale,
            Err(Halt::Refused(_)) => Finished::Refused(problem),
        }
    }

    /// Somebody stopped it: results that are known are told once more, whatever the answer.
    pub(crate) async fn let_go(&self, mut facts: Vec<Fact>) -> Finished {
        facts.retain(|fact| matches!(fact, Fact::Done(_)));
        if !facts.is_empty() {
            let answer = self.bench.effects.append(facts, Then::GoOn).await;
            tracing::debug!(invocation = %self.bench.grant.invocation, ?answer, "stopped; the last results are told");
        }
        Finished::Stopped
    }

    /// Commits all facts; what the answer brings is folded.
    pub(crate) async fn commit(&self, plan: &mut Plan<'_>, facts: &mut Vec<Fact>, then: Then) -> Result<Answer, Halt> {
        let lost = precious(facts);
        match self.bench.effects.append(std::mem::take(facts), then).await {
            Ok(appended) => self.hear(plan, appended).await,
            Err(error) => Err(Halt::new(error, lost)),
        }
    }

    pub(crate) async fn hear(&self, plan: &mut Plan<'_>, appended: Appended) -> Result<Answer, Halt> {
        match appended.next {
            Next::Waiting => return Ok(Answer::LetGo(Finished::Waiting)),
            Next::Stop => return Ok(Answer::LetGo(Finished::Stopped)),
            Next::GoOn if appended.news.is_empty() => return Ok(Answer::GoOn),
            Next::GoOn => {}
        }
        match plan.replay(&appended.news) {
            Ok(()) => Ok(Answer::News),
            Err(action) => Ok(Answer::LetGo(self.instead(*action).await?)),
        }
    }

    pub(crate) fn started(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> &dyn mesh_types::Clock {
        self.bench.effects.clock()
    }
}

/// Results that cannot be had a second time.
fn precious(facts: &[Fact]) -> Vec<Done> {
    let is_precious = |fact: &Fact| match fact {
        Fact::Done(done) if done.effect == Effect::AtMostOnce => Some(Done::clone(done)),
        _ => None,
    };
    facts.iter().filter_map(is_precious).collect()
}
