//! How the processes of the mesh are started: their services and their environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::bail;

use super::group::Group;
use super::managed::Managed;

/// Configuration of the person who runs this, which must not reach what is tested.
const PERSONAL: [&str; 10] = [
    "AGENT_",
    "NATS_URL",
    "DATABASE_URL",
    "OPENAI_",
    "ANTHROPIC_",
    "OLLAMA_",
    "EMBEDDING_",
    "CORS_",
    "OTEL_",
    "RUST_LOG",
];

/// Every service but execution.
const EDGE: [&str; 8] = [
    "registry",
    "identity",
    "heartbeat",
    "messaging",
    "memory",
    "inference",
    "reconciler",
    "gateway",
];

/// All that the commands are made of.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) program: PathBuf,
    pub(super) http_port: u16,
    pub(super) nats: String,
    pub(super) nats_monitor: String,
    pub(super) database: String,
    pub(super) database_by_proxy: String,
    /// Base URL of the fake model.
    pub(super) model: String,
    pub(super) hits: PathBuf,
    pub(super) planted: Option<String>,
}

impl Plan {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_ours = text.starts_with("MESH_") && text != "MESH_CACHE";
            if is_ours || PERSONAL.iter().any(|personal| text.starts_with(personal)) {
                command.env_remove(&name);
            }
        }
        command
            .env("MESH_NATS_URL", &self.nats)
            .env("MESH_NATS_MONITOR_URL", &self.nats_monitor)
            .env("MESH_DATABASE_URL", &self.database);
        command
    }

    fn serve(&self, services: &[&str]) -> Command {
        let mut command = self.tested();
        command.arg("serve").args(services);
        command
    }

    /// With failpoints, and with the planted bug.
    fn tested(&self) -> Command {
        let mut command = self.command();
        command.env("MESH_FAILPOINT_HITS", &self.hits);
        if let Some(planted) = &self.planted {
            command.env("MESH_PLANTED_BUG", planted);
        }
        command
    }
}

/// Brings schema and streams up to date.
pub(super) async fn migrate(plan: &Plan) -> anyhow::Result<()> {
    let mut command = plan.command();
    command.arg("migrate").stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        bail!("mesh migrate: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Every service but execution in one process.
pub(super) fn edge(plan: &Plan, group: &Group, folder: &Path) -> Managed {
    managed("edge", plan, group, folder, |plan| {
        let mut command = plan.serve(&EDGE);
        command
            .env("MESH_HTTP_PORT", plan.http_port.to_string())
            .env("MESH_REGISTRY__AUTO_CREATE_TENANTS", "true")
            .env("MESH_MESSAGING__AUTO_CREATE_CHANNELS", "true")
            .env("OPENAI_BASE_URL", format!("{}/v1", plan.model))
            .env("OPENAI_API_KEY", "of-a-test");
        command
    })
}

/// One execution process, its database behind the proxy.
pub(super) fn execution(plan: &Plan, instance: &'static str, group: &Group, folder: &Path) -> Managed {
    managed(instance, plan, group, folder, move |plan| {
        let mut command = plan.serve(&["execution"]);
        command
            .env("MESH_DATABASE_URL", &plan.database_by_proxy)
            .env("MESH_EXECUTION__INSTANCE", instance)
            .env("MESH_EXECUTION__TOOLS__PRIVATE_NETWORKS", r#"["loopback"]"#);
        command
    })
}

/// A node, which reaches the mesh over NATS only.
pub(super) fn node(plan: &Plan, id: &'static str, group: &Group, folder: &Path) -> Managed {
    let home = folder.join("nodes");
    managed(id, plan, group, folder, move |plan| {
        let mut command = plan.tested();
        command
            .args(["node", "--url", &plan.nats, "--id", id, "--slots", "16"])
            .env_remove("MESH_DATABASE_URL")
            .env("MESH_HOME", &home)
            // Whoever is gone is soon known to be gone.
            .env("AGENT_NODE_HEARTBEAT_SECONDS", "1")
            .env("MESH_NODE__LOCAL", "false")
            .env("MESH_NODE__TOOLS__PRIVATE_NETWORKS", r#"["loopback"]"#);
        command
    })
}

fn managed(
    name: &str,
    plan: &Plan,
    group: &Group,
    folder: &Path,
    command: impl Fn(&Plan) -> Command + Send + Sync + 'static,
) -> Managed {
    let plan = Arc::new(plan.clone());
    let leader = group.leader();
    Managed::new(name, folder.join(format!("{name}.log")), move || {
        let mut command = command(&plan);
        Group::join(leader, &mut command);
        command
    })
}
