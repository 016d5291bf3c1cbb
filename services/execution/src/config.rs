//! Configuration of `execution`, with defaults that suit one process on two cores.

use mesh_runtime::{DatabaseConfig, Validate};
use mesh_types::Token;
use serde::{Deserialize, Serialize};
use sysinfo::System;

/// Characters of a [`Token`].
const NAME_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Its connections serve reads, relay and ownership; each lane has one more of its own.
    pub database: DatabaseConfig,
    /// Name of this process in the shard table; each needs its own, and keeps it over restarts. Empty: the name of its
    /// machine, which each container has for itself.
    pub instance: String,
    /// Connections that commit; each shard is pinned to one.
    pub lanes: usize,
    /// Invocations that this process runs at once, over all agents.
    pub hosted_slots: u32,
    /// Milliseconds that a node keeps what it was granted without being heard of. A lost presence ends it sooner.
    pub node_lease_ms: u64,
    /// Seconds that running invocations get at a shutdown before they are left to the next owner.
    pub drain_seconds: u64,
    /// Goes on with a database that is older than what was relayed of it, as after a restore, and starts a new feed.
    /// Needed for one start only.
    pub accept_older_database: bool,
    /// Days that an idempotency key is known after the end of its invocation.
    pub keys_kept_days: u32,
    /// Days that the feed can be read back.
    pub feed_kept_days: u32,
    /// Days that an invocation is kept after its end; it goes with all its forks, once the last of them is so old.
    /// 0: for ever.
    pub history_kept_days: u32,
    /// What tools may reach.
    pub tools: mesh_tools::ToolsConfig,
    /// Test hook: the process aborts once a record of this seq is committed. 0: never.
    pub abort_after_seq: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: DatabaseConfig {
                connections: 6,
                ..DatabaseConfig::default()
            },
            instance: String::new(),
            lanes: 2,
            hosted_slots: 1_024,
            node_lease_ms: 15_000,
            drain_seconds: 5,
            accept_older_database: false,
            keys_kept_days: 7,
            feed_kept_days: 7,
            history_kept_days: 90,
            tools: mesh_tools::ToolsConfig::default(),
            abort_after_seq: 0,
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), String> {
        if !(1..=16).contains(&self.lanes) {
            return Err("execution.lanes must lie between 1 and 16".into());
        }
        if self.hosted_slots == 0 {
            return Err("execution.hosted_slots must be at least 1".into());
        }
        // No effect starts in the last second of a lease.
        if !(2_000..=600_000).contains(&self.node_lease_ms) {
            return Err("execution.node_lease_ms must lie between 2000 and 600000".into());
        }
        if self.keys_kept_days == 0 || self.feed_kept_days == 0 {
            return Err("execution.keys_kept_days and execution.feed_kept_days must be at least 1".into());
        }
        self.tools
            .validate()
            .map_err(|error| format!("execution.tools.{error}"))?;
        if self.instance.is_empty() {
            return Ok(());
        }
        self.instance
            .parse::<Token>()
            .map(drop)
            .map_err(|error| format!("execution.instance: {error}"))
    }
}

impl Config {
    /// With a name, whoever gave it.
    pub(crate) fn named(mut self) -> Self {
        if self.instance.is_empty() {
            self.instance = of_machine(&System::host_name().unwrap_or_default());
        }
        self
    }
}

/// A host name may hold what a subject may not, and be longer.
fn of_machine(host: &str) -> String {
    let host = host.split('.').next().unwrap_or_default();
    let safe = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let name: String = "execution-".chars().chain(safe).take(NAME_MAX).collect();
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_after_its_machine_unless_it_is_told() {
        assert_eq!(of_machine("33a284913b76"), "execution-33a284913b76");
        assert_eq!(
            of_machine("mesh-execution-7d9f-x2k.default"),
            "execution-mesh-execution-7d9f-x2k"
        );
        assert_eq!(of_machine(""), "execution");
        for host in ["h\u{f6}st", "a_b", &"x".repeat(200)] {
            assert!(of_machine(host).parse::<Token>().is_ok(), "{host}");
        }
        let told = Config {
            instance: "two".into(),
            ..Config::default()
        };
        assert_eq!(told.named().instance, "two");
        assert!(Config::default().named().instance.starts_with("execution"));
    }
}
