//! What a node says of its machine: name, capabilities, health. Real values, read when they are asked for.

use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mesh_types::Timestamp;
use mesh_types::fleet::{HealthReason, HealthSnapshot, NodeMode};
use sysinfo::System;
use tokio::process::Command;

use crate::Config;

/// Runtimes that every node has; command lines of agents only where their program is.
const RUNTIMES: [&str; 4] = ["http", "llm", "noop", "script"];
const PYTHON_DEADLINE: Duration = Duration::from_secs(2);
const MEGABYTE: u64 = 1024 * 1024;

/// For people: as configured, or else the machine's.
pub(crate) fn name(config: &Config) -> String {
    match config.name.trim() {
        "" => hostname(),
        name => name.to_owned(),
    }
}

/// As the system knows itself.
pub(crate) fn hostname() -> String {
    let name = System::host_name().unwrap_or_default();
    if name.is_empty() { "localhost".into() } else { name }
}

/// What agents may require of this machine now, such as `llm` or `cli:codex`.
pub(crate) fn capabilities() -> Vec<String> {
    let drivers = mesh_tools::drivers_here();
    let runtimes = RUNTIMES.iter().map(|runtime| (*runtime).to_owned());
    runtimes
        .chain(drivers.iter().map(|driver| format!("cli:{driver}")))
        .collect()
}

/// The machine over the life of the process: its CPU usage counts from one report to the next.
pub(crate) struct Machine {
    system: Mutex<Option<System>>,
    hostname: String,
    platform: &'static str,
    release: String,
    python: Option<String>,
}

impl Machine {
    /// Looks around once; CPU usage is known a moment later.
    pub(crate) async fn look() -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_usage();
        }
        Self {
            system: Mutex::new(system),
            hostname: hostname(),
            platform: platform(),
            release: System::kernel_version().unwrap_or_default(),
            python: python_version().await,
        }
    }

    /// How long it takes until CPU usage can be told for the first time.
    pub(crate) const WARM_UP: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

    pub(crate) fn health(&self, mode: NodeMode, reason: HealthReason, now: Timestamp) -> HealthSnapshot {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut cpu_percent, mut total, mut available) = (0.0, 0, 0);
        if let Some(system) = system.as_mut() {
            system.refresh_cpu_usage();
            system.refresh_memory();
            cpu_percent = f64::from(system.global_cpu_usage()).clamp(0.0, 100.0);
            (total, available) = (system.total_memory(), system.available_memory());
        }
        let load = System::load_average().map_or([0.0; 3], |load| [load.one, load.five, load.fifteen]);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        HealthSnapshot {
            mode,
            hostname: self.hostname.clone(),
            platform: self.platform.to_owned(),
            platform_release: self.release.clone(),
            python_version: self.python.clone(),
            agent_runtimes_version: env!("CARGO_PKG_VERSION").to_owned(),
            cpu_count: u32::try_from(cores).unwrap_or(u32::MAX),
            cpu_percent: round(cpu_percent),
            memory_total_mb: total / MEGABYTE,
            memory_available_mb: available / MEGABYTE,
            load_average: load.map(round),
            uptime_seconds: System::uptime().unwrap_or_default(),
            reported_at: now,
            reason,
        }
    }
}

/// More digits say nothing.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn platform() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "windows" => "Windows",
        other => other,
    }
}

/// Of the Python that scripts would get.
async fn python_version() -> Option<String> {
    let mut python = Command::new("python3");
    python.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PYTHON_DEADLINE, python.output())
        .await
        .ok()?
        .ok()?;
    parse_python(&String::from_utf8_lossy(&output.stdout))
}

fn parse_python(text: &str) -> Option<String> {
    let version = text.trim().strip_prefix("Python ")?.split_whitespace().next()?;
    Some(version.chars().take(64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_says_what_it_is() {
        let machine = Machine::look().await;
        tokio::time::sleep(Machine::WARM_UP).await;
        let now = Timestamp::from_millis(1_795_258_800_000);
        let health = machine.health(NodeMode::Shared, HealthReason::Startup, now);
        assert!(!health.hostname.is_empty() && !health.platform_release.is_empty());
        assert!(health.memory_total_mb > 64 && health.memory_available_mb <= health.memory_total_mb);
        assert!(health.cpu_count >= 1 && (0.0..=100.0).contains(&health.cpu_percent));
        assert!(health.uptime_seconds > 0);
        assert_eq!((health.mode, health.reported_at), (NodeMode::Shared, now));
    }

    #[test]
    fn a_version_is_read_and_nothing_else() {
        assert_eq!(parse_python("Python 3.14.2\n").as_deref(), Some("3.14.2"));
        assert_eq!(parse_python("Python 3.15.0 (experimental)").as_deref(), Some("3.15.0"));
        assert_eq!(parse_python("command not found"), None);
    }

    #[test]
    fn every_node_can_ask_models_and_run_scripts() {
        let known = capabilities();
        assert!(
            ["llm", "script"]
                .iter()
                .all(|one| known.iter().any(|known| known == one))
        );
    }
}
