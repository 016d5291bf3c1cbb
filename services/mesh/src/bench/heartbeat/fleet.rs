//! Simulated nodes: their heartbeats and health reports, paced, over a few connections.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh_bus::Bus;
use mesh_types::fleet::{HealthReason, HealthSnapshot, Heartbeat, NodeMode, ReplicaReport, ReplicaState};
use mesh_types::{Clock, Id as _, NodeId, ReplicaId, Subject, SystemClock, Timestamp};
use tokio::task::JoinSet;

use crate::bench::place;

/// Connections that the nodes share; one would be the bottleneck.
const CONNECTIONS: usize = 4;
const REPLICAS: u128 = 2;
/// How often those that are due are sent.
const PACE: Duration = Duration::from_millis(2);
/// Sent between two looks at the clock.
const BURST: u64 = 64;
/// In the template, where the seq belongs.
const SEQ: u64 = 987_654_321_012_345_678;

pub(super) struct Fleet {
    shards: Vec<Shard>,
    pub(super) nodes: u64,
}

/// The nodes of one connection, in turns.
struct Shard {
    bus: Bus,
    nodes: Vec<Node>,
    next: usize,
}

struct Node {
    beats_at: Subject,
    healths_at: Subject,
    /// Its heartbeat before and after the seq.
    before: String,
    after: String,
    seq: u64,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) beats: u64,
    /// Until the server had taken the last.
    pub(super) time: Duration,
}

impl Fleet {
    pub(super) async fn connect(url: &str, nodes: u64) -> anyhow::Result<Self> {
        let at = SystemClock::default().now();
        let mut shards = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let own = (number as u64..nodes).step_by(CONNECTIONS);
            shards.push(Shard {
                bus: place::connect(url, None).await?,
                nodes: own.map(|number| Node::new(number, at)).collect::<Result<_, _>>()?,
                next: 0,
            });
        }
        shards.retain(|shard| !shard.nodes.is_empty());
        Ok(Self { shards, nodes })
    }

    /// Sends `rate` heartbeats a second for so long, and a health report after each so many heartbeats of a node.
    pub(super) async fn send(&mut self, rate: f64, time: Duration, health_every: Option<u64>) -> anyhow::Result<Sent> {
        let began = Instant::now();
        let total = self.nodes as f64;
        let mut senders = JoinSet::new();
        for shard in self.shards.drain(..) {
            let share = rate * shard.nodes.len() as f64 / total;
            senders.spawn(shard.send(share, time, health_every));
        }
        let mut sent = Sent::default();
        while let Some(ended) = senders.join_next().await {
            let (shard, beats) = ended??;
            sent.beats += beats;
            self.shards.push(shard);
        }
        sent.time = began.elapsed();
        Ok(sent)
    }

    /// The seq of each node's newest heartbeat, by name.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&str, u64)> {
        let nodes = self.shards.iter().flat_map(|shard| &shard.nodes);
        nodes.filter_map(|node| match &node.beats_at {
            Subject::Heartbeat { node: id } => Some((id.as_str(), node.seq)),
            _ => None,
        })
    }
}

impl Shard {
    async fn send(mut self, rate: f64, time: Duration, health_every: Option<u64>) -> anyhow::Result<(Self, u64)> {
        let clock = SystemClock::default();
        let began = Instant::now();
        let mut sent = 0;
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            if due <= sent {
                tokio::time::sleep(PACE).await;
                continue;
            }
            for _ in 0..(due - sent).min(BURST) {
                self.send_next(health_every, &clock).await?;
                sent += 1;
            }
        }
        self.bus.flush().await?;
        Ok((self, sent))
    }

    async fn send_next(&mut self, health_every: Option<u64>, clock: &SystemClock) -> anyhow::Result<()> {
        let count = self.nodes.len();
        let node = &mut self.nodes[self.next];
        self.next = (self.next + 1) % count;
        node.seq += 1;
        let body = format!("{}{}{}", node.before, node.seq, node.after);
        self.bus.publish(&node.beats_at, body.into()).await?;
        if health_every.is_some_and(|every| node.seq.is_multiple_of(every)) {
            let body = serde_json::to_vec(&health(clock.now()))?;
            self.bus.publish(&node.healths_at, body.into()).await?;
        }
        Ok(())
    }
}

impl Node {
    fn new(number: u64, at: Timestamp) -> anyhow::Result<Self> {
        let node: NodeId = format!("nod_bench_{number:07}").parse()?;
        let body = serde_json::to_string(&heartbeat(&node, u128::from(number), SEQ, at)?)?;
        let seq = SEQ.to_string();
        let (before, after) = body.split_once(&seq).expect("the heartbeat says its seq");
        Ok(Self {
            beats_at: Subject::Heartbeat { node: node.clone() },
            healths_at: Subject::Health { node },
            before: before.to_owned(),
            after: after.to_owned(),
            seq: 0,
        })
    }
}

fn heartbeat(node: &NodeId, number: u128, seq: u64, at: Timestamp) -> anyhow::Result<Heartbeat> {
    let replica = |index: u128| {
        Ok::<_, anyhow::Error>(ReplicaReport {
            replica: ReplicaId::new(at, number * REPLICAS + index),
            tenant: "bench".parse()?,
            agent: format!("agent-{index}").parse()?,
            version: 1,
            state: ReplicaState::Ready,
            detail: String::new(),
            running: 1,
        })
    };
    Ok(Heartbeat {
        node_id: node.clone(),
        incarnation: 1,
        seq,
        sent_at: at,
        interval_seconds: super::BEAT_SECONDS,
        mode: NodeMode::Private,
        slots: 8,
        running: 2,
        tokens_per_second: 12.5,
        assignment: 3,
        replicas: (0..REPLICAS).map(replica).collect::<Result<_, _>>()?,
        draining: false,
    })
}

fn health(at: Timestamp) -> HealthSnapshot {
    HealthSnapshot {
        mode: NodeMode::Private,
        hostname: "bench".into(),
        platform: "Linux".into(),
        platform_release: "6.1".into(),
        python_version: Some("3.12".into()),
        agent_runtimes_version: env!("CARGO_PKG_VERSION").into(),
        cpu_count: 8,
        cpu_percent: 12.5,
        memory_total_mb: 16_384,
        memory_available_mb: 8_192,
        load_average: [0.5, 0.25, 0.125],
        uptime_seconds: 86_400,
        reported_at: at,
        reason: HealthReason::Periodic,
    }
}

/// A node of its own whose heartbeats are looked for in the answers.
pub(super) struct Probe {
    node: Node,
}

impl Probe {
    pub(super) fn new(fleet: &Fleet) -> anyhow::Result<Self> {
        let now = SystemClock::default().now();
        let mut node = Node::new(fleet.nodes, now)?;
        // Above that of every probe before it.
        node.seq = now.as_millis();
        Ok(Self { node })
    }

    /// Its next heartbeat.
    pub(super) fn next(&mut self) -> (Subject, Bytes, u64) {
        self.node.seq += 1;
        let body = format!("{}{}{}", self.node.before, self.node.seq, self.node.after);
        (self.node.beats_at.clone(), body.into(), self.node.seq)
    }

    pub(super) fn id(&self) -> Option<&NodeId> {
        match &self.node.beats_at {
            Subject::Heartbeat { node } => Some(node),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_heartbeat_is_one() {
        let node = Node::new(7, Timestamp::from_millis(1)).unwrap();
        let body = format!("{}{}{}", node.before, 42, node.after);
        let read: Heartbeat = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (read.seq, read.replicas.len(), read.node_id.as_str()),
            (42, 2, "nod_bench_0000007")
        );
    }
}
