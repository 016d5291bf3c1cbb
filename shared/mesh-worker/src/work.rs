//! How one group is worked off: `begun` of all its steps in one append before any effect, each `done` as it comes,
//! one append in flight, and a wait where nothing can run.

use std::time::Duration;

use futures::StreamExt;
use futures::future::OptionFuture;
use futures::stream::FuturesUnordered;
use mesh_api::journal::{Done, Effect, Fact, StepKind, WaitItem, WaitOn};
use mesh_types::{Code, Id, Problem, Timestamp};
use serde_json::{Value, json};

use crate::effects::{Effects, Then};
use crate::grant::Finished;
use crate::group::{Settled, StepPlan, Todo};
use crate::llm::is_best_effort;
use crate::plan::Plan;
use crate::retry::Tries;
use crate::run::{Answer, Halt, Worker};
use crate::steps::{Performed, perform};
use crate::thread::Asked;
use crate::traced;

/// An agent answers without its memories when they take longer.
const MEMORY_QUERY_DEADLINE: Duration = Duration::from_secs(2);
/// The reply is out by then; only the end of the invocation waits for the write-back.
const MEMORY_STORE_DEADLINE: Duration = Duration::from_secs(5);
/// Pause before a wait is asked for again that its owner did not take: its clock may be ahead.
const WAIT_AGAIN: Duration = Duration::from_millis(50);

impl<E: Effects> Worker<'_, E> {
    /// `None`: go on.
    pub(crate) async fn one(
        &self,
        plan: &mut Plan<'_>,
        facts: &mut Vec<Fact>,
        mut step: StepPlan,
    ) -> Result<Option<Finished>, Halt> {
        match std::mem::replace(&mut step.todo, Todo::Effect) {
            Todo::Settle(settled) => {
                self.settle(plan, facts, step, *settled);
                return Ok(None);
            }
            Todo::Wait(on) => return Box::pin(self.wait(plan, facts, vec![(step, *on)])).await,
            Todo::Effect => {}
        }
        let done = if self.budget.left(self.clock()).is_zero() {
            self.record(step, Err(self.budget.problem(None)), 1, self.clock().now())
        } else {
            self.begin(plan, facts, &mut step);
            if !facts.is_empty() {
                match self.commit(plan, facts, Then::GoOn).await? {
                    Answer::GoOn => {}
                    Answer::News => return Ok(None),
                    Answer::LetGo(finished) => return Ok(Some(finished)),
                }
            }
            let asked = (step.kind == StepKind::Model).then(|| plan.asked());
            match self.run(step, asked).await {
                Some(done) => done,
                None => return Ok(Some(Finished::Stopped)),
            }
        };
        plan.apply(&done);
        facts.push(Fact::Done(done));
        Ok(None)
    }

    pub(crate) async fn many(
        &self,
        plan: &mut Plan<'_>,
        facts: &mut Vec<Fact>,
        steps: Vec<StepPlan>,
    ) -> Result<Option<Finished>, Halt> {
        let mut effects = Vec::new();
        let mut waits = Vec::new();
        let mut has_settled = false;
        for mut step in steps {
            match std::mem::replace(&mut step.todo, Todo::Effect) {
                Todo::Effect => effects.push(step),
                Todo::Wait(on) => waits.push((step, *on)),
                Todo::Settle(settled) => {
                    self.settle(plan, facts, step, *settled);
                    has_settled = true;
                }
            }
        }
        if has_settled {
            return Ok(None);
        }
        if effects.is_empty() {
            return self.wait(plan, facts, waits).await;
        }
        if self.budget.left(self.clock()).is_zero() {
            let problem = self.budget.problem(None);
            for step in effects {
                self.settle(plan, facts, step, Settled::error(problem.clone()));
            }
            return Ok(None);
        }
        let mut begun: Vec<&mut StepPlan> = effects
            .iter_mut()
            .chain(waits.iter_mut().map(|(step, _)| step))
            .collect();
        begun.sort_by_key(|step| step.step);
        begun.into_iter().for_each(|step| self.begin(plan, facts, step));
        if !facts.is_empty() {
            match self.commit(plan, facts, Then::GoOn).await? {
                Answer::GoOn => {}
                Answer::News => return Ok(None),
                Answer::LetGo(finished) => return Ok(Some(finished)),
            }
        }
        self.together(plan, facts, effects).await
    }

    /// All begun: they run side by side, and each result is on its way to the journal as soon as it is there.
    async fn together(
        &self,
        plan: &mut Plan<'_>,
        facts: &mut Vec<Fact>,
        steps: Vec<StepPlan>,
    ) -> Result<Option<Finished>, Halt> {
        let is_single = |step: &&StepPlan| step.effect == Effect::AtMostOnce;
        let mut singles = steps.iter().filter(is_single).count();
        let mut running: FuturesUnordered<_> = steps.into_iter().map(|step| self.run(step, None)).collect();
        let mut appending = None;
        let mut sent: Vec<Fact> = Vec::new();
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                Some(answer) = OptionFuture::from(appending.as_mut()) => {
                    appending = None;
                    let lost = std::mem::take(&mut sent).into_iter().chain(facts.iter().cloned());
                    let appended = match answer {
                        Ok(appended) => appended,
                        Err(error) => return Err(Halt::new(error, lost.filter_map(done).collect())),
                    };
                    is_stopping = match self.hear(plan, appended).await? {
                        Answer::GoOn | Answer::News => is_stopping,
                        Answer::LetGo(Finished::Ended(outcome)) => return Ok(Some(Finished::Ended(outcome))),
                        Answer::LetGo(_) => true,
                    };
                }
                Some(result) = running.next() => {
                    let Some(done) = result else {
                        if let Some(appending) = appending {
                            drop(appending.await);
                        }
                        return Ok(Some(self.let_go(std::mem::take(facts)).await));
                    };
                    singles -= usize::from(done.effect == Effect::AtMostOnce);
                    // Its result may have come from elsewhere meanwhile.
                    if plan.is_open(done.step) {
                        plan.apply(&done);
                        facts.push(Fact::Done(done));
                    }
                }
                else => break,
            }
            // What may happen only once is waited for even so: dropped, nobody would know whether it has happened.
            if is_stopping && singles == 0 && appending.is_none() {
                return Ok(Some(self.let_go(std::mem::take(facts)).await));
            }
            if appending.is_none() && !facts.is_empty() && !running.is_empty() && !is_stopping {
                sent.clone_from(facts);
                appending = Some(Box::pin(self.bench.effects.append(std::mem::take(facts), Then::GoOn)));
            }
        }
        Ok(None)
    }

    /// Lets go until one of these has happened, unless one has.
    async fn wait(
        &self,
        plan: &mut Plan<'_>,
        facts: &mut Vec<Fact>,
        steps: Vec<(StepPlan, WaitOn)>,
    ) -> Result<Option<Finished>, Halt> {
        let is_used_up = self.budget.left(self.clock()).is_zero();
        let mut items = Vec::with_capacity(steps.len());
        let mut calls = traced::Calls::default();
        let mut has_settled = false;
        for (mut step, on) in steps {
            // What waits already may go on waiting: that takes none of its time.
            if is_used_up && !step.begun {
                self.settle(plan, facts, step, Settled::error(self.budget.problem(None)));
                has_settled = true;
                continue;
            }
            self.begin(plan, facts, &mut step);
            calls.note(&step, &on);
            items.push(WaitItem { step: step.step, on });
        }
        if has_settled {
            return Ok(None);
        }
        match self.commit(plan, facts, Then::Wait(items)).await? {
            Answer::News => Ok(None),
            Answer::LetGo(finished) => {
                calls.made();
                Ok(Some(finished))
            }
            Answer::GoOn => {
                self.bench.effects.sleep(WAIT_AGAIN).await;
                Ok(None)
            }
        }
    }

    /// Notes that the step begins, if its class wants that.
    fn begin(&self, plan: &mut Plan<'_>, facts: &mut Vec<Fact>, step: &mut StepPlan) {
        if step.wants_begun() {
            facts.push(Fact::Begun(step.begin()));
            plan.mark_begun(step.step, self.bench.grant.epoch);
            step.begun = true;
        }
    }

    fn settle(&self, plan: &mut Plan<'_>, facts: &mut Vec<Fact>, step: StepPlan, settled: Settled) {
        let started_at = plan.began_at(step.step).unwrap_or_else(|| self.clock().now());
        let done = self.done(step, settled, 1, started_at);
        plan.apply(&done);
        facts.push(Fact::Done(done));
    }

    /// The step's record, or nothing if it was stopped.
    async fn run(&self, step: StepPlan, asked: Option<Asked>) -> Option<Box<Done>> {
        let started_at = self.clock().now();
        let seed = self.bench.grant.invocation.ulid().0 as u64 ^ u64::from(step.step);
        let mut tries = Tries::new(&self.bench.spec.retry, step.effect, seed);
        let result = if step.kind == StepKind::Noop {
            // Nothing to wait for, so nothing to stop: timers would cost more than the step.
            Ok(Performed::free(Value::from(step.step)))
        } else {
            if step.effect == Effect::AtMostOnce {
                self.started().insert(step.step);
            }
            let mut span = traced::step(&step);
            let result = span.run(self.within_limits(&step, asked, &mut tries)).await?;
            traced::performed(&mut span, &step, &result, tries.attempt);
            result
        };
        Some(self.record(step, result, tries.attempt, started_at))
    }

    async fn within_limits(
        &self,
        step: &StepPlan,
        asked: Option<Asked>,
        tries: &mut Tries<'_>,
    ) -> Option<Result<Performed, Problem>> {
        let left = self.budget.left(self.clock());
        let patience = match step.kind {
            _ if self.is_consolidation() => left,
            StepKind::ContextMemories => MEMORY_QUERY_DEADLINE,
            StepKind::MemoryStore => MEMORY_STORE_DEADLINE,
            _ => left,
        };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return None,
            result = perform(self.bench, step, asked, left, tries) => return Some(result),
            () = self.bench.effects.sleep(patience.min(left)) => {}
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

    /// Memories are what it is about: it does nothing without them.
    fn is_consolidation(&self) -> bool {
        crate::consolidate::is_meant(&self.bench.grant.task())
    }

    fn record(
        &self,
        step: StepPlan,
        result: Result<Performed, Problem>,
        attempt: u32,
        started_at: Timestamp,
    ) -> Box<Done> {
        let settled = match result {
            Ok(Performed { output, usage, error }) => Settled {
                output: Some(output),
                error,
                usage,
            },
            Err(problem) => {
                let goes_on = is_best_effort(step.kind) && !self.is_consolidation();
                if goes_on {
                    let invocation = self.bench.grant.invocation;
                    tracing::warn!(%invocation, step = step.step, kind = step.kind.as_str(), %problem, "went on without it");
                }
                let without = (goes_on && step.kind == StepKind::ContextMemories).then(|| json!({"memories": []}));
                Settled {
                    output: without,
                    ..Settled::error(problem)
                }
            }
        };
        self.done(step, settled, attempt, started_at)
    }

    fn done(&self, step: StepPlan, settled: Settled, attempt: u32, started_at: Timestamp) -> Box<Done> {
        let Settled { output, error, usage } = settled;
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
}

fn done(fact: Fact) -> Option<Done> {
    match fact {
        Fact::Done(done) => Some(*done),
        _ => None,
    }
}
