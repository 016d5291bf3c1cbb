//! `mesh status`: whether a mesh runs in this home, where it is, and whether it is well.

use std::time::Duration;

use clap::Args;
use mesh_runtime::ops::ReadyBody;
use serde::Serialize;

use super::Session;
use super::session::Running;
use crate::client::Client;
use crate::failure::{Told, advised};
use crate::output::{Mood, Output, Table};
use crate::services::Service;
use crate::up::without_password;

/// Show whether a mesh runs in MESH_HOME, where it is, and whether it is well
///
/// With --json: pid, http, nats, database (with its password), healthy, services.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {}

const EXAMPLES: &str = "Examples:
  mesh status
  mesh status --json | jq -r .http
  until mesh status; do sleep 1; done

Exit codes: 0 running and healthy, 1 not running or not healthy, 2 wrong use of the command line.";

const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Status {
    pid: Option<u32>,
    http: Option<String>,
    nats: Option<String>,
    database: Option<String>,
    healthy: bool,
    services: Vec<ServiceStatus>,
}

#[derive(Debug, Serialize)]
struct ServiceStatus {
    name: &'static str,
    healthy: bool,
    /// Names of the probes that fail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failing: Vec<String>,
}

pub(crate) async fn run(_args: StatusArgs, session: &Session) -> anyhow::Result<()> {
    let running = session.running()?;
    let status = status_of(running.as_ref()).await?;
    let output = session.output;
    output.show(&status, || print(&status, output))?;
    if status.healthy {
        return Ok(());
    }
    if !output.is_table() {
        return Err(Told.into());
    }
    let home = session.home().display();
    Err(match running {
        None => advised(
            anyhow::anyhow!("no mesh runs in {home}"),
            "mesh up starts one; MESH_HOME names another home",
        ),
        Some(Running { state: None, .. }) => advised(anyhow::anyhow!("the mesh is starting"), "look again in a moment"),
        Some(_) => advised(
            anyhow::anyhow!("the mesh is not healthy"),
            "mesh logs and mesh doctor say why",
        ),
    })
}

async fn status_of(running: Option<&Running>) -> anyhow::Result<Status> {
    let state = running.and_then(|running| running.state.as_ref());
    let failing = match state {
        Some(state) => health_of(&state.http).await?,
        None => None,
    };
    let services = match (&failing, state) {
        (_, None) => Vec::new(),
        (failing, Some(_)) => Service::ALL
            .map(|service| service_status(service, failing.as_deref()))
            .into(),
    };
    Ok(Status {
        pid: running.map(|running| running.pid),
        http: state.map(|state| state.http.clone()),
        nats: state.map(|state| state.nats.clone()),
        database: state.map(|state| state.database.clone()),
        healthy: failing.is_some_and(|failing| failing.is_empty()),
        services,
    })
}

fn service_status(service: Service, failing: Option<&[String]>) -> ServiceStatus {
    let own = |probe: &String| probe.strip_prefix(service.name())?.strip_prefix('.').map(str::to_owned);
    let probes: Vec<_> = failing.unwrap_or_default().iter().filter_map(own).collect();
    ServiceStatus {
        name: service.name(),
        healthy: failing.is_some() && probes.is_empty(),
        failing: probes,
    }
}

/// Names of failing probes as `<service>.<probe>`, and of what is not ready; `None` where nobody answers.
pub(super) async fn health_of(http: &str) -> anyhow::Result<Option<Vec<String>>> {
    let client = Client::new(http, None)?;
    Ok(match client.probe::<ReadyBody>("/readyz", PROBE_TIMEOUT).await {
        Ok((200, _)) => Some(Vec::new()),
        Ok((_, body)) if body.failing.is_empty() => Some(vec![format!("mesh.{}", body.status)]),
        Ok((_, body)) => Some(body.failing),
        Err(_) => None,
    })
}

fn print(status: &Status, output: Output) -> anyhow::Result<()> {
    let (Some(pid), Some(http), Some(nats), Some(database)) =
        (status.pid, &status.http, &status.nats, &status.database)
    else {
        return Ok(());
    };
    let (mood, word) = if status.healthy {
        (Mood::Good, "healthy")
    } else {
        (Mood::Bad, "not healthy")
    };
    output.line(&format!("Agent Mesh is {} (process {pid})", output.mood(mood, word)))?;
    let mut table = Table::new(output, &["WHAT", "WHERE"]);
    table.row(["Web, API", http]);
    table.row(["NATS", &without_password(nats)]);
    table.row(["PostgreSQL", &without_password(database)]);
    table.print()?;
    let mut table = Table::new(output, &["SERVICE", "HEALTH"]);
    for service in &status.services {
        let health = match (service.healthy, service.failing.as_slice()) {
            (true, _) => "ok".to_owned(),
            (false, []) => "unknown: the gateway does not answer".to_owned(),
            (false, failing) => failing.join(", "),
        };
        table.row([service.name.to_owned(), health]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_probe_is_its_services() {
        let failing = vec!["memory.database".to_owned(), "mesh.nats".to_owned()];
        assert_eq!(service_status(Service::Memory, Some(&failing)).failing, ["database"]);
        assert!(service_status(Service::Registry, Some(&failing)).healthy);
        assert!(!service_status(Service::Registry, None).healthy);
    }
}
