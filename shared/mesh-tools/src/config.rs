//! Limits of everything outside.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolsConfig {
    /// Private addresses that tools may reach: `loopback`, or networks such as `10.1.0.0/16`. Empty: none.
    pub private_networks: Vec<String>,
    /// Longest answer in bytes.
    pub output_bytes_max: usize,
}

impl Default for ToolsConfig {
    fn default() -> Self {
        Self {
            private_networks: Vec::new(),
            output_bytes_max: 1024 * 1024,
        }
    }
}
