//! Configuration of a node.

use std::path::PathBuf;

use mesh_runtime::Validate;
use mesh_types::NodeId;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name in the mesh; made up at the first start, and kept.
    pub name: Option<NodeId>,
    /// Invocations that run at the same time.
    pub slots: u32,
    /// Where it keeps its name and unsent results; each node needs its own.
    pub state_dir: PathBuf,
    /// Seconds that running steps get at a shutdown before they are cut off and handed over.
    pub drain_seconds: u64,
    /// What tools may reach.
    pub tools: mesh_tools::ToolsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            slots: 16,
            state_dir: PathBuf::new(),
            drain_seconds: 5,
            tools: mesh_tools::ToolsConfig::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if self.slots == 0 {
            return Err("node.slots must be at least 1".into());
        }
        self.tools.validate().map_err(|reason| format!("node.tools.{reason}"))
    }
}
