//! What one record says to a reader: its events, by name and data.

use mesh_api::execution::{State, Step};
use mesh_api::journal::{About, Begun, Done, Ended, Paused, Resolution, Signalled, WaitItem, WaitOn};
use mesh_types::{AgentName, InvocationId, Timestamp};
use serde_json::{Value, json};

/// Not a record of its own: one wait may ask for several decisions.
const REQUESTED: &str = "approval.requested";

/// An event without its cursor.
pub(super) type Said = (&'static str, Value);

/// Where and when a record stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) invocation: InvocationId,
    pub(super) seq: u32,
    pub(super) epoch: u32,
    pub(super) at: Timestamp,
}

impl Stamp {
    /// Every record's event says which invocation, which record, and when; what is derived from one says the first.
    pub(super) fn on(self, (name, mut data): Said) -> Said {
        if let Some(object) = data.as_object_mut() {
            // What tells of the invocation itself is part of it and carries its id as it does.
            let key = if name.starts_with("invocation.") {
                "id"
            } else {
                "invocation"
            };
            object.insert(key.into(), json!(self.invocation));
            if name == REQUESTED {
                return (name, data);
            }
            object.insert("seq".into(), json!(self.seq));
            object.insert("epoch".into(), json!(self.epoch));
            object.insert("at".into(), json!(self.at));
        }
        (name, data)
    }

    /// What a person decides on, in the shape of an item of `GET /api/v1/approvals`.
    pub(super) fn request(self, item: &WaitItem, agent: Option<&AgentName>, begun: Option<&Begun>) -> Option<Said> {
        let (kind, name) = match &item.on {
            WaitOn::Approval { tool } => ("approval", tool),
            WaitOn::Ambiguous { name } => ("ambiguous", name),
            _ => return None,
        };
        let data = json!({
            "id": self.approval(item.step), "agent": agent, "step": item.step, "kind": kind, "name": name,
            "input": begun.map(|begun| &begun.input), "since": self.at,
        });
        Some((REQUESTED, data))
    }

    /// Which request was decided, how, and by whom.
    pub(super) fn decision(self, signalled: &Signalled) -> Option<Said> {
        let (step, decision, output) = match &signalled.about {
            About::Approval { step, approved: true } => (step, "approve", None),
            About::Approval { step, .. } => (step, "deny", None),
            About::Resolved { step, how } => match how {
                Resolution::RunAgain => (step, "approve", None),
                Resolution::Done { output, .. } => (step, "approve", Some(output)),
                Resolution::Failed { .. } => (step, "deny", None),
            },
            _ => return None,
        };
        let data = json!({
            "id": self.approval(*step), "step": step, "decision": decision, "output": output,
            "note": signalled.note, "by": signalled.actor,
        });
        Some(("approval.decided", data))
    }

    fn approval(self, step: u32) -> String {
        format!("{}-{step}", self.invocation)
    }
}

pub(super) fn state(state: State, mut more: Value) -> Value {
    if let Some(object) = more.as_object_mut() {
        object.insert("state".into(), json!(state));
    }
    more
}

pub(super) fn pause(is_paused: bool, pause: &Paused) -> Said {
    let name = if is_paused {
        "invocation.paused"
    } else {
        "invocation.resumed"
    };
    let data = json!({"paused": is_paused, "by": pause.actor, "reason": pause.reason});
    (name, data)
}

pub(super) fn step(epoch: u32, done: Done, begun: Option<Begun>) -> Said {
    let step = Step {
        number: done.step,
        kind: done.kind,
        name: done.name,
        effect: done.effect,
        input: done.input.or_else(|| begun.map(|begun| begun.input)),
        output: done.output,
        error: done.error,
        usage: done.usage,
        attempt: done.attempt,
        epoch,
        started_at: done.started_at,
        ended_at: Some(done.ended_at),
    };
    ("step.recorded", json!(step))
}

pub(super) fn end(ended: Ended) -> Said {
    let is = State::from(ended.outcome);
    let name = match is {
        State::Completed => "invocation.completed",
        State::Failed => "invocation.failed",
        State::Cancelled => "invocation.cancelled",
        _ => "invocation.dead",
    };
    let data = json!({
        "reason": ended.reason, "output": ended.output, "error": ended.error, "usage": ended.usage,
        "provider": ended.provider,
    });
    (name, state(is, data))
}
