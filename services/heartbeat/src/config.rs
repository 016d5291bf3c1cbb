//! Configuration of `heartbeat`.

use std::time::Duration;

use mesh_runtime::{DatabaseConfig, Validate};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: DatabaseConfig,
    /// How long reports are gathered before the newest of each node is written. Answers are newer than that.
    pub flush_ms: u64,
    /// How much longer than an interval a node may be silent after a connection to NATS was made: it reconnects, too.
    pub reconnect_grace_ms: u64,
    /// How often nodes are looked for whose end was missed, as while no heartbeat process ran.
    pub sweep_ms: u64,
    /// How often all nodes are read from `registry`; what changes is heard in between.
    pub directory_ms: u64,
    /// Nodes kept in memory at most; what others say is dropped and counted.
    pub nodes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            flush_ms: 1_000,
            reconnect_grace_ms: 5_000,
            sweep_ms: 30_000,
            directory_ms: 60_000,
            nodes_max: 2_000_000,
        }
    }
}

impl Config {
    pub(crate) fn reconnect_grace(&self) -> Duration {
        Duration::from_millis(self.reconnect_grace_ms)
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if self.database.connections == 0 {
            return Err("`database.connections` must be at least 1".into());
        }
        for (key, ms) in [
            ("flush_ms", self.flush_ms),
            ("sweep_ms", self.sweep_ms),
            ("directory_ms", self.directory_ms),
        ] {
            if !(50..=600_000).contains(&ms) {
                return Err(format!("`{key}` must be between 50 and 600000, not {ms}"));
            }
        }
        if self.nodes_max == 0 {
            return Err("`nodes_max` must be at least 1".into());
        }
        Ok(())
    }
}
