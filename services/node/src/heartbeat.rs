//! Says that the node is there and what it runs, every so many seconds and at once when that changed; now and then how
//! its machine is. What is said while there is no connection is lost; the next connection hears it anew.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::fleet::{HealthReason, Heartbeat};
use mesh_types::{NodeId, Subject};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Node;
use crate::machine::Machine;

/// Changes within this time are one heartbeat.
const COALESCE: Duration = Duration::from_millis(200);
/// How long the last heartbeat may take on its way.
const LAST_WORD: Duration = Duration::from_secs(1);

pub(crate) struct Reporter {
    node: Arc<Node>,
    machine: Machine,
    ended: CancellationToken,
    reconnects: watch::Receiver<u64>,
    seq: u64,
    /// On the monotonic clock.
    beat_at: Duration,
    sent_at: Duration,
    health_at: Duration,
    /// Why the next report of health is due.
    reason: HealthReason,
}

impl Reporter {
    pub(crate) async fn new(node: &Arc<Node>, ended: CancellationToken) -> Self {
        let mut reconnects = node.context.bus.reconnects();
        reconnects.mark_unchanged();
        let machine = Machine::look().await;
        let now = node.execution.now();
        Self {
            machine,
            ended,
            reconnects,
            seq: 0,
            beat_at: now,
            sent_at: now,
            health_at: now + Machine::WARM_UP,
            reason: HealthReason::Startup,
            node: Arc::clone(node),
        }
    }

    pub(crate) async fn run(mut self) {
        while !self.ended.is_cancelled() {
            let now = self.node.execution.now();
            if now >= self.beat_at {
                self.beat(now).await;
            }
            if now >= self.health_at {
                self.health(now).await;
            }
            self.wait().await;
        }
        // The last word: it takes nothing any more.
        self.beat(self.node.execution.now()).await;
        let _ = tokio::time::timeout(LAST_WORD, self.node.context.bus.flush()).await;
    }

    async fn wait(&mut self) {
        let now = self.node.execution.now();
        let until = self.beat_at.min(self.health_at).saturating_sub(now);
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = self.node.report.rung() => {
                // A change soon after a heartbeat waits a moment for the next one.
                self.beat_at = self.beat_at.min(now.max(self.sent_at + COALESCE));
                if self.node.took_mode_change() {
                    self.reason = HealthReason::ModeChange;
                    self.health_at = now;
                }
            }
            changed = self.reconnects.changed() => {
                if changed.is_ok() {
                    self.beat_at = now;
                    self.health_at = self.health_at.min(now + Machine::WARM_UP);
                }
            }
            () = tokio::time::sleep(until) => {}
        }
    }

    async fn beat(&mut self, now: Duration) {
        let interval = self.node.config.heartbeat();
        self.beat_at = now + interval;
        if !self.node.context.bus.is_connected() {
            return;
        }
        self.seq += 1;
        let heartbeat = heartbeat(&self.node, self.seq, now);
        self.sent_at = now;
        self.publish(|node| Subject::Heartbeat { node }, &heartbeat).await;
    }

    async fn health(&mut self, now: Duration) {
        self.health_at = now + self.node.config.health();
        if !self.node.context.bus.is_connected() {
            return;
        }
        let reason = std::mem::replace(&mut self.reason, HealthReason::Periodic);
        let node = &self.node;
        let health = self.machine.health(node.mode(), reason, node.context.clock.now());
        self.publish(|node| Subject::Health { node }, &health).await;
    }

    async fn publish(&self, subject: impl FnOnce(NodeId) -> Subject, what: &impl Serialize) {
        let subject = subject(self.node.execution.node.clone());
        let payload = serde_json::to_vec(what).unwrap_or_default();
        if let Err(error) = self.node.context.bus.publish(&subject, payload.into()).await {
            tracing::debug!(%error, %subject, "not said; the next one says it");
        }
    }
}

fn heartbeat(node: &Node, seq: u64, now: Duration) -> Heartbeat {
    let held = node.held.work();
    Heartbeat {
        node_id: node.execution.node.clone(),
        incarnation: node.execution.incarnation,
        seq,
        sent_at: node.context.clock.now(),
        interval_seconds: node.config.heartbeat_seconds,
        mode: node.mode(),
        slots: node.config.slots,
        running: u32::try_from(held.len()).unwrap_or(u32::MAX),
        tokens_per_second: node.load.per_second(now, node.config.heartbeat()),
        assignment: node.replicas.generation(),
        replicas: node.replicas.reports(&held),
        draining: node.draining.is_cancelled(),
    }
}
