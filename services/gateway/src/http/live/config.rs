//! What live pushes are bounded by.

use serde::{Deserialize, Serialize};

/// Table `gateway.live`; keys are `MESH_GATEWAY__LIVE__<KEY>` in the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LiveConfig {
    /// Connections of this process.
    pub clients_max: usize,
    /// Connections of one key or signed-in person, where credentials are demanded.
    pub clients_per_principal_max: usize,
    /// Topics of one connection.
    pub topics_max: usize,
    /// Pushes that may wait for a client that does not read, and their bytes; then it is cut off.
    pub behind_max: u64,
    pub behind_bytes_max: u64,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            clients_max: 20_000,
            clients_per_principal_max: 500,
            topics_max: 64,
            behind_max: 1_024,
            behind_bytes_max: 4 * 1024 * 1024,
        }
    }
}

impl LiveConfig {
    pub(crate) fn rules(&self) -> [(bool, &'static str, &'static str); 3] {
        let clients = [self.clients_max, self.clients_per_principal_max];
        [
            (
                clients.iter().all(|count| (1..=1_000_000).contains(count)),
                "live.clients_max",
                "and `clients_per_principal_max` must lie between 1 and 1000000",
            ),
            (
                (1..=1_000).contains(&self.topics_max),
                "live.topics_max",
                "must lie between 1 and 1000",
            ),
            (
                (16..=100_000).contains(&self.behind_max) && self.behind_bytes_max >= 65_536,
                "live.behind_max",
                "must lie between 16 and 100000, and `behind_bytes_max` be at least 65536",
            ),
        ]
    }
}
