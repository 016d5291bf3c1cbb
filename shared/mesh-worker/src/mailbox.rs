//! What came from outside of the worker, until a step consumes it: signals, decisions, results of children.

use std::collections::BTreeMap;

use mesh_api::journal::{About, Done, Outcome, Resolution, Signalled, StepKind, WaitOn};
use mesh_types::{Code, Problem, Timestamp};
use serde_json::{Value, json};

use crate::group::Settled;

#[derive(Default)]
pub(crate) struct Mailbox {
    /// Named signals that no step has consumed, oldest first.
    signals: Vec<Signalled>,
    /// By step. The first word counts.
    approvals: BTreeMap<u32, Signalled>,
    children: BTreeMap<u32, Signalled>,
    resolutions: BTreeMap<u32, Resolution>,
}

impl Mailbox {
    pub(crate) fn take(&mut self, signalled: &Signalled) {
        match &signalled.about {
            About::Signal { .. } => self.signals.push(signalled.clone()),
            About::Approval { step, .. } => {
                self.approvals.entry(*step).or_insert_with(|| signalled.clone());
            }
            About::Child { step, .. } => {
                self.children.entry(*step).or_insert_with(|| signalled.clone());
            }
            About::Resolved { step, how } => {
                self.resolutions.entry(*step).or_insert_with(|| how.clone());
            }
            About::Merged { .. } => {}
        }
    }

    /// How the ambiguous step is settled, if it is.
    pub(crate) fn resolution(&self, step: u32) -> Option<&Resolution> {
        self.resolutions.get(&step)
    }

    /// The step has begun anew: what was said of its earlier run is used up.
    pub(crate) fn forget_resolution(&mut self, step: u32) {
        self.resolutions.remove(&step);
    }

    /// A signal step is done: the signal that it names is used up.
    pub(crate) fn consume(&mut self, done: &Done) {
        if done.kind != StepKind::Signal {
            return;
        }
        let key = done.output.as_ref().and_then(|output| output["key"].as_str());
        if let Some(at) = self.signals.iter().position(|signal| Some(signal.key.as_str()) == key) {
            self.signals.remove(at);
        }
    }

    /// What the wait ends with, if it is over. `given` counts signals that earlier steps of the group take.
    pub(crate) fn settle(&self, step: u32, on: &WaitOn, now: Timestamp, given: &mut Vec<usize>) -> Option<Settled> {
        match on {
            WaitOn::Timer { until } => (now >= *until).then(|| Settled::output(json!({"until": until}))),
            WaitOn::Approval { .. } => self.approvals.get(&step).and_then(decided).map(Settled::output),
            WaitOn::Signal { name, until } => self
                .signal(name, given)
                .or_else(|| until.filter(|until| now >= *until).map(|_| timed_out(name)))
                .map(Settled::output),
            WaitOn::Child { .. } => self.children.get(&step).and_then(returned),
            WaitOn::Ambiguous { .. } => None,
        }
    }

    fn signal(&self, awaited: &str, given: &mut Vec<usize>) -> Option<Value> {
        let (at, signal) = self.signals.iter().enumerate().find(|(at, signal)| {
            !given.contains(at) && matches!(&signal.about, About::Signal { name, .. } if name == awaited)
        })?;
        given.push(at);
        let About::Signal { name, value } = &signal.about else {
            return None;
        };
        Some(json!({"name": name, "value": value, "by": signal.actor, "key": signal.key}))
    }
}

fn timed_out(name: &str) -> Value {
    json!({"name": name, "timed_out": true})
}

fn decided(signalled: &Signalled) -> Option<Value> {
    let About::Approval { approved, .. } = signalled.about else {
        return None;
    };
    Some(json!({"approved": approved, "by": signalled.actor, "note": signalled.note}))
}

/// The child's usage stands in the output: its tokens were paid there, and are not the parent's a second time.
fn returned(signalled: &Signalled) -> Option<Settled> {
    let About::Child {
        invocation,
        outcome,
        output,
        error,
        usage,
        ..
    } = &signalled.about
    else {
        return None;
    };
    let error = (*outcome != Outcome::Completed).then(|| {
        error.clone().unwrap_or_else(|| {
            let word = outcome.as_str();
            Problem::new(
                Code::ToolFailed,
                format!("the called invocation {invocation} ended {word}"),
            )
        })
    });
    Some(Settled {
        output: Some(json!({"invocation": invocation, "outcome": outcome, "output": output, "usage": usage})),
        error,
        ..Settled::default()
    })
}
