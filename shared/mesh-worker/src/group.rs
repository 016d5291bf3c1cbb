//! Steps that run together: parallel tool calls of one model turn, most often just one step. A group of one costs
//! no allocation, since `noop` measures the journal with it.

use std::borrow::Cow;

use mesh_api::journal::{Begun, Effect, StepKind, Usage, WaitOn};
use mesh_types::{Problem, Timestamp};
use serde_json::Value;

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
    pub todo: Todo,
}

/// What is to be done for a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Todo {
    /// Its effect runs.
    Effect,
    /// Nothing runs: this is its result.
    Settle(Box<Settled>),
    /// Nothing can be done until that has happened.
    Wait(Box<WaitOn>),
}

/// A result that is known without running anything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settled {
    pub output: Option<Value>,
    pub error: Option<Problem>,
    pub usage: Usage,
}

impl Settled {
    pub(crate) fn output(output: Value) -> Self {
        Self {
            output: Some(output),
            ..Self::default()
        }
    }

    pub(crate) fn error(problem: Problem) -> Self {
        Self {
            error: Some(problem),
            ..Self::default()
        }
    }
}

impl StepPlan {
    /// Pure steps need no `begun`: they run again freely and their input stands in `done`. So does the input of a
    /// step that does not run at all.
    pub fn wants_begun(&self) -> bool {
        !self.begun && self.effect != Effect::Pure && !matches!(self.todo, Todo::Settle(_))
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

/// What runs together, in the order of its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum Steps {
    One(StepPlan),
    Many(Vec<StepPlan>),
}

impl Steps {
    pub(crate) fn of(mut steps: Vec<StepPlan>) -> Option<Self> {
        match steps.len() {
            0 => None,
            1 => steps.pop().map(Self::One),
            _ => Some(Self::Many(steps)),
        }
    }
}

/// A step of the group that the plan stands at.
pub(crate) struct Open {
    pub(crate) plan: StepPlan,
    /// Epoch of its newest `begun` record.
    pub(crate) begun: Option<u32>,
    /// When its first `begun` was recorded: what waits takes as long as people and timers do.
    pub(crate) began_at: Option<Timestamp>,
    pub(crate) is_done: bool,
}

impl From<StepPlan> for Open {
    fn from(plan: StepPlan) -> Self {
        Self {
            plan,
            begun: None,
            began_at: None,
            is_done: false,
        }
    }
}

/// The group that the plan stands at.
pub(crate) enum Group {
    /// Not planned yet.
    None,
    One(Open),
    Many(Vec<Open>),
}

impl Group {
    pub(crate) fn of(steps: Steps) -> Self {
        match steps {
            Steps::One(step) => Self::One(step.into()),
            Steps::Many(steps) => Self::Many(steps.into_iter().map(Open::from).collect()),
        }
    }

    pub(crate) fn all(&self) -> &[Open] {
        match self {
            Self::None => &[],
            Self::One(open) => std::slice::from_ref(open),
            Self::Many(all) => all,
        }
    }

    pub(crate) fn find(&mut self, step: u32) -> Option<&mut Open> {
        let all = match self {
            Self::None => &mut [],
            Self::One(open) => std::slice::from_mut(open),
            Self::Many(all) => all.as_mut_slice(),
        };
        all.iter_mut().find(|open| open.plan.step == step)
    }
}
