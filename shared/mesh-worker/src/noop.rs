//! Runtime `noop`: records its steps and does nothing else. It measures the journal, so it allocates little.

use std::borrow::Cow;

use mesh_api::journal::{Done, Effect, Ended, StepKind};
use mesh_types::agent::AgentSpec;
use serde_json::{Value, json};

use crate::ends::{completed, failed};
use crate::group::{StepPlan, Steps, Todo};

/// Steps of a `noop` agent that does not say how many.
const STEPS: u32 = 3;

pub(crate) struct Noop {
    steps: u32,
    failed: Option<Ended>,
}

impl Noop {
    pub(crate) fn new(spec: &AgentSpec) -> Self {
        Self {
            steps: spec.noop.as_ref().map_or(STEPS, |noop| noop.steps),
            failed: None,
        }
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        self.failed = done.error.clone().map(failed);
    }

    pub(crate) fn group(&self, step: u32) -> Result<Steps, Box<Ended>> {
        if let Some(failed) = &self.failed {
            return Err(Box::new(failed.clone()));
        }
        if step > self.steps {
            return Err(Box::new(completed(Some(json!({"steps": self.steps})))));
        }
        Ok(Steps::One(StepPlan {
            step,
            kind: StepKind::Noop,
            name: Cow::Borrowed("noop"),
            effect: Effect::Pure,
            input: Value::from(step),
            begun: false,
            todo: Todo::Effect,
        }))
    }
}
