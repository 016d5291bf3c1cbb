//! What nodes say, read and checked: bytes of a stranger in, a value within its limits out. Pure.

use std::time::Duration;

use mesh_types::fleet::{HealthSnapshot, Heartbeat};
use mesh_types::{NodeId, Timestamp};
use serde::Deserialize;

/// As a message of a node may be at most.
const BYTES_MAX: usize = mesh_api::node::MESSAGE_BYTES_MAX;
/// Seconds between two heartbeats, whatever a node says of itself.
const INTERVAL_SECONDS_MIN: f64 = 0.5;
const INTERVAL_SECONDS_MAX: f64 = 600.0;
/// Intervals of silence after which a node is lost.
pub(crate) const INTERVALS: u32 = mesh_api::heartbeat::SILENT_INTERVALS_MAX;
/// A health report that is older by its node's clock is late; unless nothing came for so long: then that clock was set
/// back.
const CLOCK_SET_BACK: Duration = Duration::from_secs(180);

/// A heartbeat, and when it was received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beat {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) at: Timestamp,
}

/// A health report, and when it was received.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    pub(crate) node: NodeId,
    pub(crate) snapshot: HealthSnapshot,
    pub(crate) at: Timestamp,
}

/// Why a report is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Invalid(String),
    /// It speaks for another node than the one whose road it came by.
    Forged(NodeId),
}

/// What is published on `mesh.health.<node>`; the node may leave out its name.
#[derive(Deserialize)]
struct HealthBody {
    #[serde(default)]
    node_id: Option<NodeId>,
    #[serde(flatten)]
    snapshot: HealthSnapshot,
}

impl Beat {
    /// `node` is the last token of the subject.
    pub(crate) fn read(node: &str, payload: &[u8], at: Timestamp) -> Result<Self, Refused> {
        let heartbeat: Heartbeat = parse(payload)?;
        if heartbeat.node_id.as_str() != node {
            return Err(Refused::Forged(heartbeat.node_id));
        }
        Self::checked(heartbeat, at)
    }

    /// Brings the interval within its limits.
    pub(crate) fn checked(mut heartbeat: Heartbeat, at: Timestamp) -> Result<Self, Refused> {
        let is_number = |number: u64| i64::try_from(number).is_ok();
        if !is_number(heartbeat.incarnation) || !is_number(heartbeat.seq) {
            let reason = "`incarnation` and `seq` must be below 2^63".to_owned();
            return Err(Refused::Invalid(reason));
        }
        heartbeat.interval_seconds = heartbeat
            .interval_seconds
            .clamp(INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX);
        Ok(Self { heartbeat, at })
    }

    /// Its place in the order of its node's heartbeats.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.heartbeat.incarnation, self.heartbeat.seq)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs_f64(self.heartbeat.interval_seconds)
    }

    /// How long its node is there after it.
    pub(crate) fn ttl(&self) -> Duration {
        self.interval() * INTERVALS
    }
}

impl Health {
    /// `node` is the last token of the subject.
    pub(crate) fn read(node: &str, payload: &[u8], at: Timestamp) -> Result<Self, Refused> {
        let HealthBody { node_id, snapshot } = parse(payload)?;
        let named = node_id.map_or_else(|| node.parse(), Ok);
        let named: NodeId = named.map_err(|error| Refused::Invalid(error.to_string()))?;
        if named.as_str() != node {
            return Err(Refused::Forged(named));
        }
        Ok(Self {
            node: named,
            snapshot,
            at,
        })
    }

    pub(crate) fn is_newer_than(&self, known: &Self) -> bool {
        self.snapshot.reported_at > known.snapshot.reported_at
            || (self.at.since(known.at) > CLOCK_SET_BACK && self.snapshot.reported_at != known.snapshot.reported_at)
    }
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Refused> {
    if payload.len() > BYTES_MAX {
        return Err(Refused::Invalid(format!("it is larger than {BYTES_MAX} bytes")));
    }
    serde_json::from_slice(payload).map_err(|error| Refused::Invalid(error.to_string()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use mesh_types::fleet::NodeMode;
    use serde_json::{Value, json};

    pub(crate) fn beat(node: &str, incarnation: u64, seq: u64, at_ms: i64) -> Beat {
        let at = Timestamp::from_millis(at_ms);
        Beat {
            heartbeat: Heartbeat {
                node_id: node.parse().unwrap(),
                incarnation,
                seq,
                sent_at: at,
                interval_seconds: 20.0,
                mode: NodeMode::Private,
                slots: 4,
                running: 0,
                tokens_per_second: 0.0,
                assignment: 0,
                replicas: Vec::new(),
                draining: false,
            },
            at,
        }
    }

    fn read(node: &str, change: impl FnOnce(&mut Value)) -> Result<Beat, Refused> {
        let mut value = serde_json::to_value(beat("kitchen", 1, 1, 0).heartbeat).unwrap();
        change(&mut value);
        Beat::read(node, value.to_string().as_bytes(), Timestamp::EPOCH)
    }

    #[test]
    fn a_heartbeat_speaks_for_its_own_node_only() {
        assert!(read("kitchen", |_| ()).is_ok());
        let forged = read("cellar", |_| ()).unwrap_err();
        assert_eq!(forged, Refused::Forged("kitchen".parse().unwrap()));
    }

    #[test]
    fn what_no_node_says_is_refused_or_bounded() {
        let invalid = |result| matches!(result, Err(Refused::Invalid(_)));
        assert!(invalid(read("kitchen", |value| value["seq"] = json!(u64::MAX))));
        assert!(invalid(read("kitchen", |value| value["mode"] = json!("asleep"))));
        assert!(invalid(read("kitchen", |value| value["node_id"] = json!("a.b"))));
        assert!(invalid(
            read("kitchen", |value| value["x"] = json!("x".repeat(BYTES_MAX)))
        ));
        for (said, taken) in [(-1.0, 0.5), (0.0, 0.5), (1.0, 1.0), (1e300, 600.0)] {
            let beat = read("kitchen", |value| value["interval_seconds"] = json!(said)).unwrap();
            assert!((beat.heartbeat.interval_seconds - taken).abs() < f64::EPSILON, "{said}");
            assert_eq!(beat.ttl(), beat.interval() * 3);
        }
    }

    pub(crate) fn health(node: &str, reported_ms: i64, at_ms: i64) -> Health {
        let body = json!({
            "mode": "private", "hostname": "h", "platform": "Linux", "platform_release": "6", "cpu_count": 2,
            "agent_runtimes_version": "1", "cpu_percent": 1.5, "memory_total_mb": 2, "memory_available_mb": 1,
            "load_average": [0.0, 0.0, 0.0], "uptime_seconds": 1, "reason": "periodic",
            "reported_at": Timestamp::from_millis(reported_ms),
        });
        Health::read(node, body.to_string().as_bytes(), Timestamp::from_millis(at_ms)).unwrap()
    }

    #[test]
    fn health_is_ordered_by_its_nodes_clock_until_that_was_set_back() {
        let known = health("kitchen", 1_000, 0);
        assert!(health("kitchen", 1_001, 1).is_newer_than(&known));
        assert!(!health("kitchen", 1_000, 1).is_newer_than(&known), "a duplicate");
        assert!(!health("kitchen", 999, 1).is_newer_than(&known), "a late one");
        assert!(
            health("kitchen", 999, 200_000).is_newer_than(&known),
            "the clock was set back"
        );
        assert!(!health("kitchen", 1_000, 200_000).is_newer_than(&known));
    }
}
