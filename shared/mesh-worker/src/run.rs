//! The driver: commit what is known, run the next step, again. It decides nothing that the plan could decide.

use std::time::Duration;

use mesh_api::journal::{Done, Ended, Fact, Record, StepKind};
use mesh_types::agent::AgentSpec;
use mesh_types::{Clock, Code, Id, Problem, Timestamp};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::effects::{AppendError, Effects, Then};
use crate::grant::{Finished, Grant};
use crate::llm::is_best_effort;
use crate::plan::{Action, Plan, StepPlan, ambiguous, failed};
use crate::retry::Tries;
use crate::steps::{Performed, perform};

/// An agent answers without its memories when they take longer.
const MEMORY_QUERY_DEADLINE: Duration = Duration::from_secs(2);
/// The reply is out by then; only the end of the invocation waits for the write-back.
const MEMORY_STORE_DEADLINE: Duration = Duration::from_secs(5);

/// Runs the invocation from where its journal stands to its end, unless it is stopped or taken away. Dropping
/// the future at any point is as safe as a crash.
pub async fn run_invocation<E: Effects>(grant: Grant, effects: &E, cancel: CancellationToken) -> Finished {
    let budget = Budget::new(&grant, effects.clock());
    let worker = Worker {
        grant: &grant,
        spec: &grant.spec,
        effects,
        cancel: &cancel,
        budget,
    };
    let mut newer: Option<Vec<Record>> = None;
    loop {
        let journal = newer.as_deref().unwrap_or(&grant.journal);
        match worker.drive(journal).await {
            Ok(finished) | Err(Halt::Finished(finished)) => return finished,
            Err(Halt::Refused(problem)) => return worker.give_up(problem).await,
            // A conflict that brings no news would come again for ever.
            Err(Halt::Conflict(committed)) if committed.len() <= journal.len() => {
                tracing::error!(invocation = %grant.invocation, "a conflict without a newer record");
                return Finished::Stale;
            }
            Err(Halt::Conflict(committed)) => newer = Some(committed),
        }
    }
}

/// Why the driver leaves its path.
enum Halt {
    Finished(Finished),
    Conflict(Vec<Record>),
    Refused(Box<Problem>),
}

impl From<AppendError> for Halt {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Stale => Self::Finished(Finished::Stale),
            AppendError::Cancelled { .. } => Self::Finished(Finished::Stopped),
            AppendError::Conflict { committed } => Self::Conflict(committed),
            AppendError::Refused(problem) => Self::Refused(problem),
        }
    }
}

struct Worker<'a, E> {
    grant: &'a Grant,
    spec: &'a AgentSpec,
    effects: &'a E,
    cancel: &'a CancellationToken,
    budget: Budget,
}

impl<E: Effects> Worker<'_, E> {
    async fn drive(&self, journal: &[Record]) -> Result<Finished, Halt> {
        let mut plan = Plan::new(self.grant.task());
        let mut action = match plan.replay(journal) {
            Ok(()) => plan.next(),
            Err(action) => *action,
        };
        // Known, not yet committed.
        let mut facts = Vec::new();
        loop {
            let mut step = match action {
                Action::Run(step) => step,
                Action::End(ended) => return self.end(facts, ended).await,
                Action::Ambiguous { step, name } => {
                    return self.end(facts, Box::new(ambiguous(step, &name))).await;
                }
                Action::Over(outcome) => return Ok(Finished::Ended(outcome)),
            };
            if self.cancel.is_cancelled() {
                return Ok(Finished::Stopped);
            }
            let done = if self.budget.left(self.clock()).is_zero() {
                let now = self.clock().now();
                self.record(step, Err(self.budget.problem(None)), 1, now)
            } else {
                if step.wants_begun() {
                    facts.push(Fact::Begun(step.begin()));
                    step.begun = true;
                }
                if !facts.is_empty() {
                    self.effects.append(std::mem::take(&mut facts), Then::GoOn).await?;
                }
                match self.run(step).await {
                    Some(done) => done,
                    None => return Ok(Finished::Stopped),
                }
            };
            plan.apply(&done);
            facts.push(Fact::Done(done));
            action = plan.next();
        }
    }

    async fn end(&self, facts: Vec<Fact>, ended: Box<Ended>) -> Result<Finished, Halt> {
        let outcome = ended.outcome;
        self.effects.append(facts, Then::End(ended)).await?;
        Ok(Finished::Ended(outcome))
    }

    /// The journal refused records for what they hold: the invocation ends with that as its reason.
    async fn give_up(&self, problem: Box<Problem>) -> Finished {
        let ended = Box::new(failed((*problem).clone()));
        match self.end(Vec::new(), ended).await {
            Ok(finished) | Err(Halt::Finished(finished)) => finished,
            Err(Halt::Conflict(_)) => Finished::Stale,
            Err(Halt::Refused(_)) => Finished::Refused(problem),
        }
    }

    /// The step's record, or nothing if it was stopped.
    async fn run(&self, step: StepPlan) -> Option<Box<Done>> {
        let started_at = self.clock().now();
        let seed = self.grant.invocation.ulid().0 as u64 ^ u64::from(step.step);
        let mut tries = Tries::new(&self.spec.retry, seed);
        let result = if step.kind == StepKind::Noop {
            // Nothing to wait for, so nothing to stop: timers would cost more than the step.
            Ok(Performed::free(Value::from(step.step)))
        } else {
            self.within_limits(&step, &mut tries).await?
        };
        Some(self.record(step, result, tries.attempt, started_at))
    }

    async fn within_limits(&self, step: &StepPlan, tries: &mut Tries<'_>) -> Option<Result<Performed, Problem>> {
        let left = self.budget.left(self.clock());
        let patience = match step.kind {
            StepKind::ContextMemories => MEMORY_QUERY_DEADLINE,
            StepKind::MemoryStore => MEMORY_STORE_DEADLINE,
            _ => left,
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return None,
            result = perform(self.effects, self.grant, step, tries) => return Some(result),
            () = self.effects.sleep(patience.min(left)) => {}
        }
        Some(Err(if patience < left {
            let seconds = patience.as_secs();
            Problem::new(
                Code::Timeout,
                format!("{} took longer than {seconds} s", step.kind.as_str()),
            )
        } else {
            self.budget.problem(tries.last.as_ref())
        }))
    }

    fn record(
        &self,
        step: StepPlan,
        result: Result<Performed, Problem>,
        attempt: u32,
        started_at: Timestamp,
    ) -> Box<Done> {
        let (output, usage, error) = match result {
            Ok(Performed { output, usage }) => (Some(output), usage, None),
            Err(problem) => {
                if is_best_effort(step.kind) {
                    tracing::warn!(invocation = %self.grant.invocation, step = step.step, kind = step.kind.as_str(), %problem, "went on without it");
                }
                let without = (step.kind == StepKind::ContextMemories).then(|| json!({"memories": []}));
                (without, mesh_api::journal::Usage::default(), Some(problem))
            }
        };
        Box::new(Done {
            step: step.step,
            kind: step.kind,
            name: step.name.into_owned(),
            effect: step.effect,
            input: (!step.begun).then_some(step.input),
            output,
            error,
            usage,
            attempt,
            started_at,
            ended_at: self.clock().now(),
        })
    }

    fn clock(&self) -> &dyn Clock {
        self.effects.clock()
    }
}
