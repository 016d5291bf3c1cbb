//! Notes at `identity` of who spoke for another node: at most one a second for each who tried.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_api::Caller;
use mesh_api::identity::{AuditEntry, AuditNote, AuditOutcome};
use mesh_types::{NodeId, Timestamp};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::state::State;

const EVERY: Duration = Duration::from_secs(1);
/// Who tried lately; past it all are forgotten at once.
const REMEMBERED_MAX: usize = 10_000;
/// Notes that wait for `identity`; past it they are dropped with a line in the log.
pub(crate) const WAITING_MAX: usize = 1_024;
/// How often a note is tried while `identity` is away, with doubling pauses from half a second.
const ATTEMPTS_MAX: u32 = 8;

#[derive(Debug)]
pub(crate) struct Audit {
    last: Mutex<HashMap<String, Timestamp>>,
    notes: mpsc::Sender<AuditEntry>,
}

impl Audit {
    pub(crate) fn new() -> (Self, mpsc::Receiver<AuditEntry>) {
        let (notes, receiver) = mpsc::channel(WAITING_MAX);
        let last = Mutex::default();
        (Self { last, notes }, receiver)
    }

    /// `node` said it was `named`.
    pub(crate) fn forged(&self, node: &str, named: &NodeId, action: &str, now: Timestamp) {
        // A subject may hold what no node is called.
        let node: String = node.chars().take(64).collect();
        if !self.is_due(&node, now) {
            return;
        }
        let entry = AuditEntry {
            actor: format!("node:{node}"),
            action: action.to_owned(),
            subject: named.to_string(),
            outcome: AuditOutcome::Refused,
            reason: format!("node `{node}` spoke for `{named}`"),
            before: Value::Null,
            after: Value::Null,
            request_id: None,
        };
        if self.notes.try_send(entry).is_err() {
            tracing::warn!(node, %named, "a node spoke for another; the audit does not hear of it: too many wait");
        }
    }

    fn is_due(&self, node: &str, now: Timestamp) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(node).is_some_and(|at| now.since(*at) < EVERY) {
            return false;
        }
        if last.len() >= REMEMBERED_MAX {
            last.clear();
        }
        last.insert(node.to_owned(), now);
        true
    }
}

pub(crate) async fn send(state: Arc<State>, mut notes: mpsc::Receiver<AuditEntry>) {
    loop {
        let entry = tokio::select! {
            entry = notes.recv() => entry,
            () = state.context.shutdown.cancelled() => return,
        };
        let Some(entry) = entry else { return };
        tokio::select! {
            () = note(&state, &entry) => {}
            () = state.context.shutdown.cancelled() => return,
        }
    }
}

async fn note(state: &State, entry: &AuditEntry) {
    let node = entry.actor.strip_prefix("node:").and_then(|node| node.parse().ok());
    let registered = node.and_then(|node: NodeId| state.directory.get(&node));
    let tenant = registered.map(|registered| registered.tenant).unwrap_or_default();
    let caller = Caller::service(state.context.service, tenant);
    let mut pause = Duration::from_millis(500);
    for _ in 0..ATTEMPTS_MAX {
        match state.context.bus.call::<AuditNote>(&caller, entry).await {
            Ok(_) => return,
            Err(problem) if problem.is_transient() => tokio::time::sleep(pause).await,
            Err(problem) => {
                tracing::warn!(%problem, reason = entry.reason, "the audit refuses a note");
                return;
            }
        }
        pause *= 2;
    }
    tracing::warn!(reason = entry.reason, "the audit does not answer; a note is lost");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_tries_a_thousand_times_is_noted_once_a_second() {
        let (audit, mut notes) = Audit::new();
        let named = "cellar".parse().unwrap();
        for ms in 0..2_000 {
            audit.forged("kitchen", &named, "node.heartbeat", Timestamp::from_millis(ms));
        }
        audit.forged("attic", &named, "node.heartbeat", Timestamp::from_millis(1));
        let mut actors = Vec::new();
        while let Ok(entry) = notes.try_recv() {
            assert_eq!(
                (entry.subject.as_str(), entry.outcome),
                ("cellar", AuditOutcome::Refused)
            );
            actors.push(entry.actor);
        }
        assert_eq!(actors, ["node:kitchen", "node:kitchen", "node:attic"]);
    }
}
