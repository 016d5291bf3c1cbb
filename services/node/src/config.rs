//! Configuration of a node.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use mesh_runtime::Validate;
use mesh_types::NodeId;
use mesh_types::fleet::{Labels, NodeMode};
use serde::{Deserialize, Serialize};

use crate::machine;
use crate::models::InferenceConfig;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Pinned id (`AGENT_NODE_ID`), taken verbatim; absent: the mesh gives one at the first join, and it is kept.
    pub id: Option<NodeId>,
    /// For people (`AGENT_NODE_NAME`); empty: the name of this machine.
    pub name: String,
    /// Whom it works for (`AGENT_NODE_MODE`), only before anything is persisted; absent: `private`.
    pub mode: Option<NodeMode>,
    /// What `placement.node_selector` picks nodes by, such as `region`.
    pub labels: Labels,
    /// Invocations that run at the same time.
    pub slots: u32,
    /// Where it keeps who it is, unsent results and artifacts (`AGENT_NODE_STATE_PATH`): a folder, or its state file if
    /// the name ends in `.json`. Each node needs its own.
    pub state_path: PathBuf,
    /// Seconds between two heartbeats, fractions too (`AGENT_NODE_HEARTBEAT_SECONDS`).
    pub heartbeat_seconds: f64,
    /// Seconds between two reports of its machine's health (`AGENT_NODE_HEALTH_SECONDS`).
    pub health_seconds: f64,
    /// Seconds between two questions for its assignment; it asks at its bell, too.
    pub assignment_seconds: f64,
    /// Seconds that a refused credential is tried again at the start, as the mesh may be starting, too.
    pub join_patience_seconds: f64,
    /// Seconds that running steps get at a shutdown before they are cut off and handed over.
    pub drain_seconds: u64,
    /// Whether it serves its own API and page, for requests to this machine by its own name only.
    pub local: bool,
    /// Where that listens: loopback, unless the node is in a container whose port is published on loopback.
    pub local_host: IpAddr,
    /// Port of that; 0: any free one.
    pub local_port: u16,
    /// Who answers for the models.
    pub inference: InferenceConfig,
    /// What tools may reach.
    pub tools: mesh_tools::ToolsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            id: None,
            name: String::new(),
            mode: None,
            labels: Labels::new(),
            slots: 16,
            state_path: PathBuf::new(),
            heartbeat_seconds: 20.0,
            health_seconds: 60.0,
            assignment_seconds: 10.0,
            join_patience_seconds: 15.0,
            drain_seconds: 5,
            local: true,
            local_host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            local_port: crate::local::PORT,
            inference: InferenceConfig::default(),
            tools: mesh_tools::ToolsConfig::default(),
        }
    }
}

/// Longest name for people, in bytes.
const NAME_BYTES_MAX: usize = 255;
const LABELS_MAX: usize = 64;

impl Config {
    /// What people see: as configured, or else the name of this machine.
    #[must_use]
    pub fn shown_name(&self) -> String {
        machine::name(self)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs_f64(self.heartbeat_seconds)
    }

    pub(crate) fn health(&self) -> Duration {
        Duration::from_secs_f64(self.health_seconds)
    }

    pub(crate) fn assignment(&self) -> Duration {
        Duration::from_secs_f64(self.assignment_seconds)
    }

    pub(crate) fn join_patience(&self) -> Duration {
        Duration::from_secs_f64(self.join_patience_seconds)
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if self.slots == 0 {
            return Err("node.slots must be at least 1".into());
        }
        if self.name.len() > NAME_BYTES_MAX || self.name.chars().any(char::is_control) {
            return Err(format!(
                "node.name must be at most {NAME_BYTES_MAX} bytes without control characters"
            ));
        }
        if self.labels.len() > LABELS_MAX || self.labels.keys().any(String::is_empty) {
            return Err(format!("node.labels must be at most {LABELS_MAX}, each with a key"));
        }
        let seconds = [
            ("heartbeat_seconds", self.heartbeat_seconds, 0.5, 600.0),
            ("health_seconds", self.health_seconds, 0.5, 3_600.0),
            ("assignment_seconds", self.assignment_seconds, 0.1, 600.0),
            ("join_patience_seconds", self.join_patience_seconds, 0.0, 3_600.0),
        ];
        for (key, value, least, most) in seconds {
            // Also false for what is no number.
            if !(least..=most).contains(&value) {
                return Err(format!("node.{key} must be {least} to {most} seconds"));
            }
        }
        let inference = self.inference.validate();
        inference.map_err(|reason| format!("node.inference.{reason}"))?;
        self.tools.validate().map_err(|reason| format!("node.tools.{reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        assert_eq!(Config::default().validate(), Ok(()));
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert!(wrong(|config| config.slots = 0).contains("node.slots"));
        assert!(wrong(|config| config.heartbeat_seconds = 0.1).contains("node.heartbeat_seconds"));
        assert!(wrong(|config| config.health_seconds = f64::NAN).contains("node.health_seconds"));
        assert!(wrong(|config| config.name = "a\nb".into()).contains("node.name"));
        assert!(wrong(|config| config.inference.base_url = Some("x".into())).contains("node.inference.base_url"));
    }
}
