//! The newest of each node in memory: what a report changes, what waits to be written, what is known of presence.
//! Pure; the database decides again, for others hear nodes, too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesh_api::heartbeat::Presence;
use mesh_types::{NodeId, Timestamp};

use crate::report::{Beat, Health, INTERVALS};

#[derive(Debug)]
pub(crate) struct Nodes {
    seen: HashMap<NodeId, Seen>,
    /// Nodes whose newest heartbeat, or health, is not written yet; each once.
    beats: VecDeque<NodeId>,
    healths: VecDeque<NodeId>,
    nodes_max: usize,
}

#[derive(Debug, Default)]
struct Seen {
    beat: Option<Arc<Beat>>,
    health: Option<Arc<Health>>,
    beat_waits: bool,
    health_waits: bool,
    key: Key,
}

/// The node's key in `PRESENCE`, as far as this process knows.
#[derive(Debug, Default)]
enum Key {
    #[default]
    Absent,
    /// It was written at that time, or later.
    Held { presence: Presence, at: Timestamp },
}

/// What became of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is the newest now, and its key is to be written, or not.
    Newest(Option<KeyWrite>),
    /// Something newer is known.
    Late,
    /// There are too many nodes.
    Full,
}

/// A key to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyWrite {
    pub(crate) node: NodeId,
    pub(crate) presence: Presence,
    pub(crate) ttl: Duration,
    pub(crate) kind: KeyKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Others learn something by it.
    Change,
    /// So that it does not expire.
    Renewal,
}

impl Nodes {
    pub(crate) fn new(nodes_max: usize) -> Self {
        Self {
            seen: HashMap::new(),
            beats: VecDeque::new(),
            healths: VecDeque::new(),
            nodes_max,
        }
    }

    /// Takes a heartbeat if it is the newest of its node.
    pub(crate) fn beat(&mut self, beat: Beat) -> Taken {
        let Some(seen) = entry(&mut self.seen, self.nodes_max, &beat.heartbeat.node_id) else {
            return Taken::Full;
        };
        if seen.beat.as_ref().is_some_and(|known| known.order() >= beat.order()) {
            return Taken::Late;
        }
        // Another process heard a later start of the node.
        if matches!(&seen.key, Key::Held { presence, .. } if presence.incarnation > beat.heartbeat.incarnation) {
            return Taken::Late;
        }
        let write = seen.key.due(&beat);
        if write.is_some() {
            seen.key = Key::Held {
                presence: presence_of(&beat),
                at: beat.at,
            };
        }
        if !seen.beat_waits {
            seen.beat_waits = true;
            self.beats.push_back(beat.heartbeat.node_id.clone());
        }
        seen.beat = Some(Arc::new(beat));
        Taken::Newest(write)
    }

    /// Takes a health report if it is the newest of its node.
    pub(crate) fn health(&mut self, health: Health) -> Taken {
        let Some(seen) = entry(&mut self.seen, self.nodes_max, &health.node) else {
            return Taken::Full;
        };
        if seen.health.as_ref().is_some_and(|known| !health.is_newer_than(known)) {
            return Taken::Late;
        }
        if !seen.health_waits {
            seen.health_waits = true;
            self.healths.push_back(health.node.clone());
        }
        seen.health = Some(Arc::new(health));
        Taken::Newest(None)
    }

    /// The watch saw a key.
    pub(crate) fn key_seen(&mut self, node: &NodeId, presence: Presence, now: Timestamp) {
        let Some(seen) = entry(&mut self.seen, self.nodes_max, node) else {
            return;
        };
        // Of a key that is new to this process nobody says how old it is: the next heartbeat renews it.
        let at = match seen.key {
            Key::Held { .. } => now,
            Key::Absent => Timestamp::EPOCH,
        };
        seen.key = Key::Held { presence, at };
    }

    /// Its key is gone, or could not be written: the next heartbeat writes it. Answers the newest heartbeat.
    pub(crate) fn key_gone(&mut self, node: &NodeId) -> Option<Arc<Beat>> {
        let seen = self.seen.get_mut(node)?;
        seen.key = Key::Absent;
        seen.beat.clone()
    }

    /// What the server kept in memory may be gone.
    pub(crate) fn keys_unknown(&mut self) {
        for seen in self.seen.values_mut() {
            seen.key = Key::Absent;
        }
    }

    pub(crate) fn has_key(&self, node: &NodeId) -> bool {
        let seen = self.seen.get(node);
        seen.is_some_and(|seen| matches!(seen.key, Key::Held { .. }))
    }

    pub(crate) fn get(&self, node: &NodeId) -> (Option<Arc<Beat>>, Option<Arc<Health>>) {
        let seen = self.seen.get(node);
        seen.map_or((None, None), |seen| (seen.beat.clone(), seen.health.clone()))
    }

    /// Heartbeats that wait to be written, those that wait longest first.
    pub(crate) fn take_beats(&mut self, count_max: usize) -> Vec<Arc<Beat>> {
        let count = count_max.min(self.beats.len());
        let seen = &mut self.seen;
        let nodes = self.beats.drain(..count);
        let taken = nodes.filter_map(|node| {
            let seen = seen.get_mut(&node)?;
            seen.beat_waits = false;
            seen.beat.clone()
        });
        taken.collect()
    }

    pub(crate) fn take_healths(&mut self, count_max: usize) -> Vec<Arc<Health>> {
        let count = count_max.min(self.healths.len());
        let seen = &mut self.seen;
        let nodes = self.healths.drain(..count);
        let taken = nodes.filter_map(|node| {
            let seen = seen.get_mut(&node)?;
            seen.health_waits = false;
            seen.health.clone()
        });
        taken.collect()
    }

    /// They could not be written: the newest of these nodes wait again.
    pub(crate) fn beats_wait<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeId>) {
        for node in nodes {
            if let Some(seen) = self.seen.get_mut(node).filter(|seen| !seen.beat_waits) {
                seen.beat_waits = true;
                self.beats.push_back(node.clone());
            }
        }
    }

    /// As [`Nodes::beats_wait`], of health reports.
    pub(crate) fn healths_wait<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeId>) {
        for node in nodes {
            if let Some(seen) = self.seen.get_mut(node).filter(|seen| !seen.health_waits) {
                seen.health_waits = true;
                self.healths.push_back(node.clone());
            }
        }
    }

    /// Forgets a node that is gone, unless something of it is not written yet.
    pub(crate) fn evict(&mut self, node: &NodeId) {
        let is_idle = |seen: &Seen| !seen.beat_waits && !seen.health_waits && matches!(seen.key, Key::Absent);
        if self.seen.get(node).is_some_and(is_idle) {
            self.seen.remove(node);
        }
    }

    /// Forgets a node at once.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.seen.remove(node);
        self.beats.retain(|waiting| waiting != node);
        self.healths.retain(|waiting| waiting != node);
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }
}

impl Key {
    /// The write that a newest heartbeat makes necessary. Every second one renews: the key then has an interval left,
    /// and by the bare time a heartbeat that comes a little late would come too late.
    fn due(&self, beat: &Beat) -> Option<KeyWrite> {
        let presence = presence_of(beat);
        let kind = match self {
            Self::Held { presence: held, at } if *held == presence => {
                let is_due = beat.at.since(*at) >= beat.interval().mul_f64(RENEW_AFTER_INTERVALS);
                is_due.then_some(KeyKind::Renewal)?
            }
            _ => KeyKind::Change,
        };
        Some(KeyWrite {
            node: beat.heartbeat.node_id.clone(),
            presence,
            ttl: beat.ttl(),
            kind,
        })
    }
}

const RENEW_AFTER_INTERVALS: f64 = 1.5;
const _: () = assert!(RENEW_AFTER_INTERVALS + 1.0 < INTERVALS as f64);

fn presence_of(beat: &Beat) -> Presence {
    Presence {
        incarnation: beat.heartbeat.incarnation,
        draining: beat.heartbeat.draining,
    }
}

/// `None`: there are too many nodes.
fn entry<'a>(seen: &'a mut HashMap<NodeId, Seen>, nodes_max: usize, node: &NodeId) -> Option<&'a mut Seen> {
    // Nearly always known; the key is cloned for a new one only.
    if !seen.contains_key(node) {
        if seen.len() >= nodes_max {
            return None;
        }
        seen.insert(node.clone(), Seen::default());
    }
    seen.get_mut(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{beat, health};
    use proptest::prelude::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn written(taken: Taken) -> Option<KeyKind> {
        match taken {
            Taken::Newest(write) => write.map(|write| write.kind),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn late_doubled_and_shuffled_heartbeats_change_nothing_newer(
            sent in prop::collection::vec((0_u8..3, 0_u64..4, 0_u64..6), 1..60),
            flush_every in 1_usize..10,
        ) {
            let mut nodes = Nodes::new(10);
            let mut newest: HashMap<u8, (u64, u64)> = HashMap::new();
            let mut stored: HashMap<NodeId, (u64, u64)> = HashMap::new();
            for (index, (name, incarnation, seq)) in sent.iter().enumerate() {
                let known = newest.get(name).copied();
                let taken = nodes.beat(beat(&format!("n{name}"), *incarnation, *seq, index as i64));
                let is_newer = known.is_none_or(|known| (*incarnation, *seq) > known);
                prop_assert_eq!(matches!(taken, Taken::Newest(_)), is_newer);
                if is_newer {
                    newest.insert(*name, (*incarnation, *seq));
                }
                if index % flush_every == 0 {
                    let batch = nodes.take_beats(2);
                    // The database may be away: they wait, or what came meanwhile waits in their place.
                    if index % 2 == 0 {
                        nodes.beats_wait(batch.iter().map(|beat| &beat.heartbeat.node_id));
                    } else {
                        stored.extend(batch.iter().map(|beat| (beat.heartbeat.node_id.clone(), beat.order())));
                    }
                }
            }
            let rest = nodes.take_beats(usize::MAX);
            stored.extend(rest.iter().map(|beat| (beat.heartbeat.node_id.clone(), beat.order())));
            prop_assert_eq!(nodes.take_beats(1).len(), 0);
            for (name, order) in newest {
                let id = node(&format!("n{name}"));
                prop_assert_eq!(stored.get(&id), Some(&order));
                prop_assert_eq!(nodes.get(&id).0.unwrap().order(), order);
            }
        }
    }

    #[test]
    fn a_key_is_written_at_a_change_and_at_every_second_heartbeat() {
        let mut nodes = Nodes::new(10);
        let mut at = |seq: u64| written(nodes.beat(beat("n", 1, seq, 20_000 * seq as i64)));
        assert_eq!(at(1), Some(KeyKind::Change));
        assert_eq!(
            (at(2), at(3), at(4), at(5)),
            (None, Some(KeyKind::Renewal), None, Some(KeyKind::Renewal))
        );
        let mut draining = beat("n", 1, 6, 101_000);
        draining.heartbeat.draining = true;
        assert_eq!(written(nodes.beat(draining)), Some(KeyKind::Change));
        assert_eq!(written(nodes.beat(beat("n", 2, 1, 102_000))), Some(KeyKind::Change));
        // A key that went, or that somebody else wrote with what is old, is written again.
        assert!(nodes.has_key(&node("n")));
        assert_eq!(nodes.key_gone(&node("n")).unwrap().order(), (2, 1));
        assert!(!nodes.has_key(&node("n")));
        assert_eq!(written(nodes.beat(beat("n", 2, 2, 103_000))), Some(KeyKind::Change));
        let old = Presence {
            incarnation: 1,
            draining: false,
        };
        nodes.key_seen(&node("n"), old, Timestamp::from_millis(103_001));
        assert_eq!(written(nodes.beat(beat("n", 2, 3, 104_000))), Some(KeyKind::Change));
        nodes.keys_unknown();
        assert_eq!(written(nodes.beat(beat("n", 2, 4, 105_000))), Some(KeyKind::Change));
    }

    #[test]
    fn a_start_that_another_process_heard_makes_the_earlier_one_late() {
        let mut nodes = Nodes::new(10);
        let later = Presence {
            incarnation: 2,
            draining: false,
        };
        nodes.key_seen(&node("n"), later, Timestamp::from_millis(1));
        assert_eq!(nodes.beat(beat("n", 1, 9, 1_000_000)), Taken::Late);
        // How old that key is nobody knows: it is renewed.
        assert_eq!(written(nodes.beat(beat("n", 2, 1, 1_000_000))), Some(KeyKind::Renewal));
    }

    #[test]
    fn memory_is_bounded_and_lets_go_of_whoever_is_gone() {
        let mut nodes = Nodes::new(1);
        nodes.beat(beat("a", 1, 1, 0));
        assert_eq!(nodes.beat(beat("b", 1, 1, 0)), Taken::Full);
        assert_eq!(nodes.health(health("b", 1, 0)), Taken::Full);
        nodes.key_gone(&node("a"));
        nodes.evict(&node("a"));
        assert_eq!(nodes.len(), 1, "its heartbeat is not written yet");
        assert_eq!(nodes.take_beats(10).len(), 1);
        nodes.evict(&node("a"));
        assert_eq!(nodes.len(), 0);
        assert_eq!(nodes.health(health("b", 1, 0)), Taken::Newest(None));
        assert_eq!(nodes.health(health("b", 1, 1)), Taken::Late);
        nodes.forget(&node("b"));
        assert_eq!((nodes.len(), nodes.take_healths(10).len()), (0, 0));
    }
}
