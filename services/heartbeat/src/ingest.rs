//! Hears what nodes publish. Nothing here waits for a database, so that the subscription's buffer stays empty; what
//! is dropped in spite of that is made good by the node's next report.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use mesh_bus::{BusError, Message, Subscription};
use mesh_types::Timestamp;
use mesh_types::subject::Filter;

use crate::nodes::Taken;
use crate::report::{Beat, Health, Refused};
use crate::state::State;

/// Processes share the reports among them.
const GROUP: &str = "heartbeat";
/// Reports that are taken in at once, with one lock and one look at the clock.
const CHUNK: usize = 256;
/// A subscriber somewhere in this process lost messages: it was us if so many waited here shortly before.
const BEHIND: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Beat,
    Health,
}

/// How a chunk went.
#[derive(Default)]
struct Tally {
    taken: u64,
    late: u64,
    invalid: u64,
    forged: u64,
    full: u64,
}

/// The subscriptions, open when this returns.
pub(crate) struct Ears {
    beats: Subscription,
    healths: Subscription,
}

pub(crate) async fn open(state: &State) -> Result<Ears, BusError> {
    let bus = &state.context.bus;
    Ok(Ears {
        beats: bus.subscribe_shared(&Filter::Heartbeats, GROUP).await?,
        healths: bus.subscribe_shared(&Filter::HealthReports, GROUP).await?,
    })
}

pub(crate) fn start(state: &Arc<State>, ears: Ears) {
    let tasks = &state.context.tasks;
    let full_at = Arc::new(AtomicI64::new(0));
    let beats = hear(Arc::clone(state), ears.beats, Kind::Beat, Arc::clone(&full_at));
    tasks.spawn("beats", beats);
    let healths = hear(Arc::clone(state), ears.healths, Kind::Health, Arc::clone(&full_at));
    tasks.spawn("health", healths);
    tasks.spawn("connections", watch_connections(Arc::clone(state), full_at));
}

async fn hear(state: Arc<State>, messages: Subscription, kind: Kind, full_at: Arc<AtomicI64>) {
    let mut chunks = messages.ready_chunks(CHUNK);
    loop {
        let chunk = tokio::select! {
            chunk = chunks.next() => chunk,
            () = state.context.shutdown.cancelled() => return,
        };
        let Some(chunk) = chunk else { return };
        let now = state.now();
        if chunk.len() == CHUNK {
            full_at.store(now.as_micros(), Ordering::Relaxed);
        }
        let tally = match kind {
            Kind::Beat => take_beats(&state, &chunk, now),
            Kind::Health => take_healths(&state, &chunk, now),
        };
        count(&state, kind, &tally);
        // A flood must not keep the other tasks of this thread waiting.
        tokio::task::yield_now().await;
    }
}

fn take_beats(state: &State, chunk: &[Message], now: Timestamp) -> Tally {
    let mut tally = Tally::default();
    let mut read = Vec::with_capacity(chunk.len());
    for message in chunk {
        let node = last_token(&message.subject);
        match Beat::read(node, &message.payload, now) {
            Ok(beat) => read.push(beat),
            Err(refused) => refuse(state, node, Kind::Beat, refused, now, &mut tally),
        }
    }
    let mut writes = Vec::new();
    {
        let mut nodes = state.nodes();
        for beat in read {
            match nodes.beat(beat) {
                Taken::Newest(write) => {
                    tally.taken += 1;
                    writes.extend(write);
                }
                Taken::Late => tally.late += 1,
                Taken::Full => tally.full += 1,
            }
        }
    }
    for write in writes {
        state.write_key(write);
    }
    tally
}

fn take_healths(state: &State, chunk: &[Message], now: Timestamp) -> Tally {
    let mut tally = Tally::default();
    for message in chunk {
        let node = last_token(&message.subject);
        match Health::read(node, &message.payload, now) {
            Ok(health) => match state.nodes().health(health) {
                Taken::Newest(_) => tally.taken += 1,
                Taken::Late => tally.late += 1,
                Taken::Full => tally.full += 1,
            },
            Err(refused) => refuse(state, node, Kind::Health, refused, now, &mut tally),
        }
    }
    tally
}

fn refuse(state: &State, node: &str, kind: Kind, refused: Refused, now: Timestamp, tally: &mut Tally) {
    match refused {
        Refused::Invalid(reason) => {
            tally.invalid += 1;
            tracing::debug!(node, ?kind, reason, "a node's report cannot be read");
        }
        Refused::Forged(named) => {
            tally.forged += 1;
            state.audit.forged(node, &named, kind.action(), now);
        }
    }
}

fn count(state: &State, kind: Kind, tally: &Tally) {
    let rows = [
        ("taken", tally.taken),
        ("late", tally.late),
        ("invalid", tally.invalid),
        ("forged", tally.forged),
        ("full", tally.full),
    ];
    for (outcome, count) in rows.into_iter().filter(|(_, count)| *count > 0) {
        let labels = [("kind", kind.name()), ("outcome", outcome)];
        state.reports.add(count, &labels);
    }
}

/// Of `mesh.heartbeat.<node>`.
fn last_token(subject: &str) -> &str {
    subject.rsplit_once('.').map_or(subject, |(_, node)| node)
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Beat => "heartbeat",
            Self::Health => "health",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Beat => "node.heartbeat",
            Self::Health => "node.health",
        }
    }
}

/// While there was no connection, and while reports were dropped here, nobody's silence says anything.
async fn watch_connections(state: Arc<State>, full_at: Arc<AtomicI64>) {
    let bus = &state.context.bus;
    let (mut connections, mut missed) = (bus.connections(), bus.reconnects());
    connections.mark_unchanged();
    missed.mark_unchanged();
    loop {
        tokio::select! {
            changed = connections.changed() => {
                if changed.is_err() {
                    return;
                }
                // A restarted server has an empty bucket.
                state.nodes().keys_unknown();
                state.heard_nothing_before(state.now());
                state.directory.bell.ring();
            }
            changed = missed.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = state.now();
                if now.since(Timestamp::from_micros(full_at.load(Ordering::Relaxed))) < BEHIND {
                    tracing::warn!("heartbeats were dropped: this process cannot keep up");
                    state.heard_nothing_before(now);
                }
            }
            () = state.context.shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_types::Subject;

    #[test]
    fn the_node_is_the_subjects_last_token() {
        let node: mesh_types::NodeId = "nod_1".parse().unwrap();
        for subject in [
            Subject::Heartbeat { node: node.clone() },
            Subject::Health { node: node.clone() },
        ] {
            assert_eq!(last_token(&subject.to_string()), "nod_1");
        }
    }
}
