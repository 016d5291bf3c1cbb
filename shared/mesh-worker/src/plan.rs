//! The pure plan: what is next, from the journal alone. Done steps are read, never run; every step that the
//! journal names must be the one that the plan would take, or the run has diverged.

use std::borrow::Cow;

use mesh_api::journal::{Begun, Done, Effect, Ended, Fact, Outcome, Record, StepKind};
use mesh_types::{Code, Problem};
use serde_json::Value;

use crate::grant::Task;
use crate::llm::Llm;
use crate::noop::Noop;

/// What a worker does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Run(StepPlan),
    /// Nothing is left to do but to say so.
    End(Box<Ended>),
    /// An at_most_once step has begun under an earlier claim: whether it happened, nobody knows.
    Ambiguous {
        step: u32,
        name: String,
    },
    /// The journal has its end already.
    Over(Outcome),
}

/// One step as it will be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct StepPlan {
    /// From 1.
    pub step: u32,
    pub kind: StepKind,
    pub name: Cow<'static, str>,
    pub effect: Effect,
    /// All that the effect depends on, but for its key `<invocation>/<step>`.
    pub input: Value,
    /// Whether a `begun` record holds `input` already.
    pub begun: bool,
}

impl StepPlan {
    /// Pure steps need no `begun`: they run again freely and their input stands in `done`.
    pub fn wants_begun(&self) -> bool {
        !self.begun && self.effect != Effect::Pure
    }

    pub(crate) fn begin(&self) -> Begun {
        Begun {
            step: self.step,
            kind: self.kind,
            name: self.name.clone().into_owned(),
            effect: self.effect,
            input: self.input.clone(),
        }
    }
}

/// Folds the journal and says what is next. The same journal and task give the same action, always.
pub fn next(journal: &[Record], task: Task<'_>) -> Action {
    let mut plan = Plan::new(task);
    match plan.replay(journal) {
        Ok(()) => plan.next(),
        Err(action) => *action,
    }
}

/// The journal folded so far.
pub(crate) struct Plan<'a> {
    /// Number of the step that is next.
    step: u32,
    flow: Flow<'a>,
    begun: Option<Begun>,
}

enum Flow<'a> {
    Llm(Box<Llm<'a>>),
    Noop(Noop),
    /// This build cannot run it.
    Refused(Problem),
}

impl<'a> Plan<'a> {
    pub(crate) fn new(task: Task<'a>) -> Self {
        use mesh_types::agent::Runtime;
        let flow = match task.spec.runtime {
            Runtime::Noop => Flow::Noop(Noop::new(task.spec)),
            Runtime::Llm => Llm::new(task).map_or_else(Flow::Refused, |llm| Flow::Llm(Box::new(llm))),
            other => Flow::Refused(
                Problem::new(
                    Code::RuntimeNotAvailable,
                    format!("this worker cannot run agents of runtime `{}`", other.as_str()),
                )
                .field("spec.runtime"),
            ),
        };
        Self {
            step: 1,
            flow,
            begun: None,
        }
    }

    /// Reads records from seq 1 on. `Err` is what to do instead of going on.
    pub(crate) fn replay(&mut self, journal: &[Record]) -> Result<(), Box<Action>> {
        for record in journal {
            match &record.fact {
                Fact::Accepted(_)
                | Fact::Claimed(_)
                | Fact::Waiting(_)
                | Fact::Signalled(_)
                | Fact::Released(_)
                | Fact::Paused(_)
                | Fact::Resumed(_)
                | Fact::CancelRequested(_) => {}
                Fact::Begun(begun) => {
                    self.expect(begun.step, begun.kind, Some(&begun.input))?;
                    self.begun = Some(begun.clone());
                }
                Fact::Done(done) => {
                    self.expect(done.step, done.kind, done.input.as_ref())?;
                    self.apply(done);
                }
                Fact::Ended(ended) => return Err(Box::new(Action::Over(ended.outcome))),
            }
        }
        Ok(())
    }

    /// A step is done: goes on to the one after it.
    pub(crate) fn apply(&mut self, done: &Done) {
        self.step += 1;
        self.begun = None;
        match &mut self.flow {
            Flow::Llm(llm) => llm.apply(done),
            Flow::Noop(noop) => noop.apply(done),
            Flow::Refused(_) => {}
        }
    }

    pub(crate) fn next(&self) -> Action {
        let mut plan = match self.plan() {
            Action::Run(plan) => plan,
            other => return other,
        };
        if let Some(begun) = &self.begun {
            if begun.effect == Effect::AtMostOnce {
                return Action::Ambiguous {
                    step: begun.step,
                    name: begun.name.clone(),
                };
            }
            plan.begun = true;
        }
        Action::Run(plan)
    }

    fn plan(&self) -> Action {
        match &self.flow {
            Flow::Llm(llm) => llm.plan(self.step),
            Flow::Noop(noop) => noop.plan(self.step),
            Flow::Refused(problem) => Action::End(Box::new(failed(problem.clone()))),
        }
    }

    /// Whether the plan, from what came before, is what the record says.
    fn expect(&self, step: u32, kind: StepKind, input: Option<&Value>) -> Result<(), Box<Action>> {
        let why = match self.plan() {
            Action::Run(plan) if plan.step != step || plan.kind != kind => {
                format!(
                    "step {} would be {}, the record says {step} {}",
                    plan.step,
                    plan.kind.as_str(),
                    kind.as_str()
                )
            }
            Action::Run(plan) if input.is_some_and(|input| *input != plan.input) => {
                format!("step {step} {} would have another input than its record", kind.as_str())
            }
            Action::Run(_) => return Ok(()),
            _ => format!("nothing would follow, the record says step {step} {}", kind.as_str()),
        };
        Err(Box::new(Action::End(Box::new(diverged(why)))))
    }
}

/// An end whose reason is the last word of the problem's type.
pub(crate) fn failed(problem: Problem) -> Ended {
    let reason = problem.kind.rsplit('/').next().unwrap_or_default().replace('-', "_");
    Ended {
        outcome: Outcome::Failed,
        reason: Some(reason),
        output: None,
        error: Some(problem),
        usage: mesh_api::journal::Usage::default(),
        provider: None,
    }
}

pub(crate) fn ambiguous(step: u32, name: &str) -> Ended {
    let why = format!(
        "step {step} `{name}` may run at most once; its worker was lost after it had begun, so it is not run again"
    );
    because("ambiguous", why)
}

fn diverged(why: String) -> Ended {
    because("diverged", why)
}

fn because(reason: &str, why: String) -> Ended {
    let mut ended = failed(Problem::new(Code::InvocationFailed, why));
    ended.reason = Some(reason.to_owned());
    ended
}
