//! What tunnels and the road for nodes' NATS are bounded by.

use mesh_api::tunnel::{FRAME_BYTES_MAX, LIFE_SECONDS, SILENCE_SECONDS};
use serde::{Deserialize, Serialize};

/// Table `gateway.tunnel`; keys are `MESH_GATEWAY__TUNNEL__<KEY>` in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelConfig {
    /// How long a node may take to answer the opening.
    pub open_timeout_ms: u64,
    /// A node, or the client of a WebSocket, that says nothing for so long is gone; a third of it is between two pings.
    pub silence_ms: u64,
    /// A tunnel that nobody reads and nobody writes to is closed after so long; until then it can be resumed.
    pub idle_ms: u64,
    /// Rights are checked again at least so often, besides at every change of the node.
    pub rights_interval_ms: u64,
    /// A tunnel is closed after so long, whatever happens.
    pub life_seconds: u64,
    /// Open tunnels of this process.
    pub tunnels_max: usize,
    pub per_node_max: usize,
    /// Frames that are kept of a tunnel for readers that are behind or come back, and their bytes.
    pub kept_frames_max: usize,
    pub kept_bytes_max: usize,
}

/// Table `gateway.nats`: NATS over WebSocket, for nodes where only HTTPS leaves the building.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsProxyConfig {
    /// Open connections of this process; 0 switches the road off.
    pub connections_max: usize,
    /// A connection without a byte in either direction for so long is closed. The server pings every 2 minutes and
    /// nodes every 10 s.
    pub idle_seconds: u64,
    /// Largest WebSocket message of a client; a node's largest NATS message is 512 KiB.
    pub message_bytes_max: usize,
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self {
            open_timeout_ms: 5_000,
            silence_ms: SILENCE_SECONDS * 1_000,
            idle_ms: 120_000,
            rights_interval_ms: 8_000,
            life_seconds: LIFE_SECONDS,
            tunnels_max: 1_000,
            per_node_max: 16,
            kept_frames_max: 4_096,
            kept_bytes_max: 1024 * 1024,
        }
    }
}

impl Default for NatsProxyConfig {
    fn default() -> Self {
        Self {
            connections_max: 1_000,
            idle_seconds: 300,
            message_bytes_max: 2 * 1024 * 1024,
        }
    }
}

/// A rule for each key, with whether it is kept.
pub(crate) type Rules = Vec<(bool, &'static str, &'static str)>;

impl TunnelConfig {
    pub(crate) fn rules(&self) -> Rules {
        let an_hour = 3_600_000;
        let least_bytes = 2 * FRAME_BYTES_MAX;
        vec![
            (
                (10..=60_000).contains(&self.open_timeout_ms),
                "tunnel.open_timeout_ms",
                "must lie between 10 and 60000",
            ),
            (
                (100..=an_hour).contains(&self.silence_ms),
                "tunnel.silence_ms",
                "must lie between 100 and 3600000",
            ),
            (
                (100..=an_hour).contains(&self.idle_ms),
                "tunnel.idle_ms",
                "must lie between 100 and 3600000",
            ),
            (
                (10..=an_hour).contains(&self.rights_interval_ms),
                "tunnel.rights_interval_ms",
                "must lie between 10 and 3600000",
            ),
            (
                (1..=7 * 24 * 3_600).contains(&self.life_seconds),
                "tunnel.life_seconds",
                "must lie between 1 and 604800",
            ),
            (
                (1..=100_000).contains(&self.tunnels_max),
                "tunnel.tunnels_max",
                "must lie between 1 and 100000",
            ),
            (
                (1..=10_000).contains(&self.per_node_max),
                "tunnel.per_node_max",
                "must lie between 1 and 10000",
            ),
            (
                (8..=1_000_000).contains(&self.kept_frames_max),
                "tunnel.kept_frames_max",
                "must lie between 8 and 1000000",
            ),
            (
                self.kept_bytes_max >= least_bytes,
                "tunnel.kept_bytes_max",
                "must be at least 524288, two frames of the largest size",
            ),
        ]
    }
}

impl NatsProxyConfig {
    pub(crate) fn rules(&self) -> Rules {
        vec![
            (
                self.connections_max <= 1_000_000,
                "nats.connections_max",
                "must be at most 1000000",
            ),
            (
                (1..=86_400).contains(&self.idle_seconds),
                "nats.idle_seconds",
                "must lie between 1 and 86400",
            ),
            (
                (64 * 1024..=16 * 1024 * 1024).contains(&self.message_bytes_max),
                "nats.message_bytes_max",
                "must lie between 65536 and 16777216",
            ),
        ]
    }
}
