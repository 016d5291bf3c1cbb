//! Rules of sessions: in order of acceptance, one at a time. The feed of their common shard gives the order of commits.

use std::collections::BTreeMap;

use mesh_types::InvocationId;

use super::{Violation, violation};
use crate::evidence::{Evidence, Invocation};

type Place = (i64, usize);

/// One invocation of a session: when it was accepted, first claimed, and ended.
struct Turn {
    id: InvocationId,
    accepted: Place,
    claimed: Option<Place>,
    ended: Option<Place>,
}

pub(super) fn in_order(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (session, turns) in sessions(evidence) {
        for pair in turns.windows(2) {
            let [first, second] = pair else { continue };
            if let (Some(one), Some(other)) = (first.claimed, second.claimed)
                && other < one
            {
                let detail = format!("{} was accepted after {} and ran before it", second.id, first.id);
                found.push(violation(&session, detail));
            }
        }
    }
}

pub(super) fn one_at_a_time(evidence: &Evidence, found: &mut Vec<Violation>) {
    for (session, mut turns) in sessions(evidence) {
        turns.retain(|turn| turn.claimed.is_some());
        turns.sort_by_key(|turn| turn.claimed);
        for pair in turns.windows(2) {
            let [first, second] = pair else { continue };
            // The end of one and the claim of the next may share a batch; the order in it is by record.
            if first.ended.is_none_or(|ended| second.claimed < Some(ended)) {
                let detail = format!("{} ran before {} had ended", second.id, first.id);
                found.push(violation(&session, detail));
            }
        }
    }
}

/// Invocations by session, in order of acceptance.
fn sessions(evidence: &Evidence) -> BTreeMap<String, Vec<Turn>> {
    let mut sessions: BTreeMap<String, Vec<Turn>> = BTreeMap::new();
    for (id, invocation) in &evidence.journal.invocations {
        let Some(session) = &invocation.session else { continue };
        let Some(accepted) = place(invocation, "accepted") else {
            continue;
        };
        let turn = Turn {
            id: *id,
            accepted,
            claimed: place(invocation, "claimed"),
            ended: place(invocation, "ended"),
        };
        sessions
            .entry(format!("{}/{session}", invocation.agent))
            .or_default()
            .push(turn);
    }
    for turns in sessions.values_mut() {
        turns.sort_by_key(|turn| turn.accepted);
    }
    sessions
}

/// Where the first record of that kind was committed.
fn place(invocation: &Invocation, kind: &str) -> Option<Place> {
    invocation.of_kind(kind).next()?.places.first().copied()
}
