//! `mesh services`: what answers on the bus, and how much it has done.

use clap::Args;
use mesh_api::Page;
use mesh_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::Session;
use crate::output::{Table, age, now};

/// Show the services that answer, one line for each process that serves one
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mesh services\n  mesh services -o json")]
pub(crate) struct ServicesArgs {}

#[derive(Debug, Serialize, Deserialize)]
struct ServiceView {
    name: String,
    instance: String,
    version: String,
    started_at: Timestamp,
    requests: u64,
    errors: u64,
    #[serde(default)]
    endpoints: Vec<serde_json::Value>,
}

pub(crate) async fn run(_args: ServicesArgs, session: &Session) -> anyhow::Result<()> {
    let page: Page<ServiceView> = session.client()?.get("/api/v1/services", &[]).await?;
    let output = session.output;
    output.show(&page, || {
        let mut table = Table::new(output, &["SERVICE", "VERSION", "UP", "REQUESTS", "ERRORS", "INSTANCE"]);
        let now = now();
        for service in &page.items {
            table.row([
                service.name.clone(),
                service.version.clone(),
                age(service.started_at, now),
                service.requests.to_string(),
                service.errors.to_string(),
                service.instance.clone(),
            ]);
        }
        table.print()
    })
}
