//! Configuration of `reconciler`.

use std::time::Duration;

use mesh_runtime::{DatabaseConfig, Validate};
use serde::{Deserialize, Serialize};

use crate::core::Settings;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub database: DatabaseConfig,
    /// Between two passes when nothing rings, and between two probes of the services.
    pub interval_ms: u64,
    /// Between two questions what waits, as long as some agent scales by it.
    pub demand_ms: u64,
    /// A node that has not taken on its assignment after so long is deaf; its bell rings at each pass meanwhile.
    pub deaf_after_ms: u64,
    /// A node that was lost is used again after being there so long; doubles with each loss.
    pub stable_ms: u64,
    /// Longest such time.
    pub stable_max_ms: u64,
    /// Losses of a node count together within this time.
    pub flap_window_ms: u64,
    /// Before a replica that failed is replaced again; doubles up to 5 minutes.
    pub retry_ms: u64,
    /// Before a version that failed its health is tried again; doubles up to 1 hour.
    pub version_retry_ms: u64,
    /// How long a leader may be silent before another process takes over.
    pub leader_silence_ms: u64,
    /// How long passes that changed something are kept.
    pub passes_kept_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseConfig::default(),
            interval_ms: 10_000,
            demand_ms: 1_000,
            deaf_after_ms: 30_000,
            stable_ms: 10_000,
            stable_max_ms: 300_000,
            flap_window_ms: 600_000,
            retry_ms: 5_000,
            version_retry_ms: 300_000,
            leader_silence_ms: 3_000,
            passes_kept_days: 7,
        }
    }
}

/// A leader beats so often within the time after which it is taken for dead.
const BEATS_PER_SILENCE: u64 = 3;

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        let positive = [
            ("database.connections", u64::from(self.database.connections)),
            ("interval_ms", self.interval_ms),
            ("demand_ms", self.demand_ms),
            ("deaf_after_ms", self.deaf_after_ms),
            ("stable_ms", self.stable_ms),
            ("flap_window_ms", self.flap_window_ms),
            ("retry_ms", self.retry_ms),
            ("version_retry_ms", self.version_retry_ms),
            ("passes_kept_days", u64::from(self.passes_kept_days)),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("`{name}` must be at least 1"));
        }
        if self.leader_silence_ms < 300 {
            return Err("`leader_silence_ms` must be at least 300".into());
        }
        if self.stable_max_ms < self.stable_ms {
            return Err("`stable_max_ms` must not be less than `stable_ms`".into());
        }
        Ok(())
    }
}

impl Config {
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    pub(crate) fn leader_silence(&self) -> Duration {
        Duration::from_millis(self.leader_silence_ms)
    }

    pub(crate) fn beat(&self) -> Duration {
        Duration::from_millis(self.leader_silence_ms / BEATS_PER_SILENCE)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            deaf_after: Duration::from_millis(self.deaf_after_ms),
            stable: Duration::from_millis(self.stable_ms),
            stable_max: Duration::from_millis(self.stable_max_ms),
            flap_window: Duration::from_millis(self.flap_window_ms),
            retry: Duration::from_millis(self.retry_ms),
            version_retry: Duration::from_millis(self.version_retry_ms),
        }
    }
}
