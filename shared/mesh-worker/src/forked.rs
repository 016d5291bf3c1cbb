//! What a fork knows of its source: how it differs, and which at_most_once effects are recorded there. Such an
//! effect has happened once; the fork reads its result, or asks a person before it happens a second time.

use std::collections::BTreeMap;
use std::sync::Arc;

use mesh_api::journal::{Effect, Fact, Record, StepKind, Usage};
use mesh_api::steering::Edit;
use mesh_types::agent::AgentSpec;
use serde_json::Value;

use crate::grant::Grant;
use crate::group::Settled;

pub(crate) struct Forked<'a> {
    pub(crate) from_step: u32,
    pub(crate) edit: &'a Edit,
    effects: Vec<Recorded>,
}

struct Recorded {
    name: String,
    input: Value,
    result: Settled,
    /// Each answers one call.
    is_used: bool,
}

impl<'a> Forked<'a> {
    pub(crate) fn of(grant: &'a Grant) -> Option<Self> {
        let fork = grant.fork.as_ref()?;
        Some(Self {
            from_step: fork.from_step,
            edit: &fork.edit,
            effects: effects(&grant.recording, fork.from_step),
        })
    }

    /// Whether the step is one of the fork's own, not a recorded one of its source.
    pub(crate) fn is_own(&self, step: u32) -> bool {
        step >= self.from_step
    }

    /// Result of the same call in the recording, each one once.
    pub(crate) fn answer(&mut self, name: &str, input: &Value) -> Option<Settled> {
        let same = |effect: &&mut Recorded| !effect.is_used && effect.name == name && effect.input == *input;
        let effect = self.effects.iter_mut().find(same)?;
        effect.is_used = true;
        Some(effect.result.clone())
    }
}

fn effects(recording: &[Record], from_step: u32) -> Vec<Recorded> {
    let mut inputs = BTreeMap::new();
    let mut effects = Vec::new();
    for record in recording {
        match &record.fact {
            Fact::Begun(begun) => {
                inputs.insert(begun.step, &begun.input);
            }
            Fact::Done(done)
                if done.kind == StepKind::Tool && done.effect == Effect::AtMostOnce && done.step >= from_step =>
            {
                let input = done.input.as_ref().or_else(|| inputs.get(&done.step).copied());
                effects.extend(input.map(|input| Recorded {
                    name: done.name.clone(),
                    input: input.clone(),
                    // It was paid in the source.
                    result: Settled {
                        output: done.output.clone(),
                        error: done.error.clone(),
                        usage: Usage::default(),
                    },
                    is_used: false,
                }));
            }
            _ => {}
        }
    }
    effects
}

/// The spec with the fork's edit: it holds for all later steps.
pub(crate) fn edited_spec(grant: &Grant) -> Arc<AgentSpec> {
    let Some(fork) = &grant.fork else {
        return Arc::clone(&grant.spec);
    };
    let Edit {
        instructions, model, ..
    } = &fork.edit;
    if instructions.is_none() && model.is_none() {
        return Arc::clone(&grant.spec);
    }
    let mut spec = AgentSpec::clone(&grant.spec);
    if let Some(instructions) = instructions {
        spec.instructions.clone_from(instructions);
    }
    if let Some(model) = model {
        spec.model.name.clone_from(model);
    }
    Arc::new(spec)
}
