//! Limits of everything outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::guard::Guard;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ToolsConfig {
    /// Private addresses that tools may reach: `loopback`, or networks such as `10.1.0.0/16`. Empty: none.
    pub private_networks: Vec<String>,
    /// Longest answer in bytes.
    pub output_bytes_max: usize,
    /// Seconds that an MCP server which nobody calls is kept.
    pub mcp_idle_seconds: u64,
}

impl Default for ToolsConfig {
    fn default() -> Self {
        Self {
            private_networks: Vec::new(),
            output_bytes_max: 1024 * 1024,
            mcp_idle_seconds: 300,
        }
    }
}

impl ToolsConfig {
    /// To be asked before [`crate::Toolbox::new`].
    ///
    /// # Errors
    /// Names the key, below `tools`, that cannot be used.
    pub fn validate(&self) -> Result<(), String> {
        if self.output_bytes_max == 0 {
            return Err("output_bytes_max must be at least 1".into());
        }
        if self.mcp_idle_seconds == 0 {
            return Err("mcp_idle_seconds must be at least 1".into());
        }
        Guard::new(&self.private_networks)
            .map(drop)
            .map_err(|error| format!("private_networks: {error}"))
    }

    pub(crate) fn mcp_idle(&self) -> Duration {
        Duration::from_secs(self.mcp_idle_seconds)
    }
}
