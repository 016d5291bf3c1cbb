//! Which runtime's steps a plan takes. Each flow is pure: it plans a group, and is told what became of its steps.

use mesh_api::journal::{Done, Ended, StepKind};
use mesh_types::agent::Runtime;
use mesh_types::{Code, Problem};
use serde_json::Value;

use crate::consolidate::{self, Consolidate};
use crate::ends::failed;
use crate::forked::Forked;
use crate::grant::Task;
use crate::group::{StepPlan, Steps};
use crate::llm::Llm;
use crate::noop::Noop;
use crate::remote::Remote;
use crate::thread::Asked;

pub(crate) enum Flow<'a> {
    Llm(Box<Llm<'a>>),
    /// An `llm` agent over its own memories.
    Consolidate(Box<Consolidate<'a>>),
    /// `script`, `cli` and `http`.
    Remote(Box<Remote<'a>>),
    Noop(Noop),
    /// This build cannot run it.
    Refused(Problem),
}

impl<'a> Flow<'a> {
    pub(crate) fn new(task: Task<'a>, forked: Option<Forked<'a>>) -> Self {
        match task.spec.runtime {
            Runtime::Noop => Self::Noop(Noop::new(task.spec)),
            Runtime::Llm if consolidate::is_meant(&task) => Consolidate::new(task, forked)
                .map_or_else(Self::Refused, |consolidate| Self::Consolidate(Box::new(consolidate))),
            Runtime::Llm => Llm::new(task, forked).map_or_else(Self::Refused, |llm| Self::Llm(Box::new(llm))),
            Runtime::Script | Runtime::Cli | Runtime::Http => {
                Remote::new(task, forked).map_or_else(Self::Refused, |remote| Self::Remote(Box::new(remote)))
            }
            other @ (Runtime::Container | Runtime::Wasm) => Self::Refused(
                Problem::new(
                    Code::RuntimeNotAvailable,
                    format!("this worker cannot run agents of runtime `{}`", other.as_str()),
                )
                .field("spec.runtime"),
            ),
        }
    }

    /// The group whose first step has that number, or the end. Asked once for each group.
    pub(crate) fn group(&mut self, step: u32) -> Result<Steps, Box<Ended>> {
        match self {
            Self::Llm(llm) => llm.group(step),
            Self::Consolidate(consolidate) => consolidate.group(step),
            Self::Remote(remote) => remote.group(step),
            Self::Noop(noop) => noop.group(step),
            Self::Refused(problem) => Err(Box::new(failed(problem.clone()))),
        }
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        match self {
            Self::Llm(llm) => llm.apply(done),
            Self::Consolidate(consolidate) => consolidate.apply(done),
            Self::Remote(remote) => remote.apply(done),
            Self::Noop(noop) => noop.apply(done),
            Self::Refused(_) => {}
        }
    }

    /// A message of the same session joined before the first step.
    pub(crate) fn merge(&mut self, payload: &Value) {
        match self {
            Self::Llm(llm) => llm.merge(payload),
            Self::Remote(remote) => remote.merge(payload),
            Self::Consolidate(_) | Self::Noop(_) | Self::Refused(_) => {}
        }
    }

    pub(crate) fn asked(&self) -> Asked {
        match self {
            Self::Llm(llm) => llm.asked(),
            Self::Consolidate(consolidate) => consolidate.asked(),
            _ => Asked::default(),
        }
    }

    /// Whether the recorded input, which is not the planned one, is the same in a form that earlier versions wrote.
    pub(crate) fn is_same_in_old_form(&self, plan: &StepPlan, recorded: &Value) -> bool {
        match self {
            Self::Llm(llm) => llm.is_same_in_old_form(plan, recorded),
            _ => false,
        }
    }

    /// It goes on as the recorded input says it began.
    pub(crate) fn goes_on_as(&mut self, kind: StepKind, recorded: &Value) {
        if let Self::Llm(llm) = self
            && kind == StepKind::Model
        {
            llm.goes_on_as(recorded);
        }
    }

    /// The recorded input counts, not the planned one.
    pub(crate) fn adopt(&mut self, step: u32, kind: StepKind, input: &Value, goes_on_from_it: bool) {
        match self {
            Self::Llm(llm) if kind == StepKind::Model => llm.adopt(step, input, goes_on_from_it),
            Self::Consolidate(consolidate) if kind == StepKind::Model => {
                consolidate.adopt(step, input, goes_on_from_it);
            }
            _ => {}
        }
    }

    /// Asks a person before the tool call of that step.
    pub(crate) fn ask(&mut self, step: u32) -> Option<StepPlan> {
        match self {
            Self::Llm(llm) => llm.ask(step),
            Self::Remote(remote) => Some(remote.ask(step)),
            Self::Consolidate(_) | Self::Noop(_) | Self::Refused(_) => None,
        }
    }

    /// An edited result in the form that the kind's results have.
    pub(crate) fn edited(&self, kind: StepKind, output: &Value) -> Value {
        match kind {
            StepKind::Model => crate::thread::completion_of(output),
            _ => output.clone(),
        }
    }
}
