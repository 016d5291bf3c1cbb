//! `mesh describe`: all of one object, and what belongs to it.

use clap::{Args, Subcommand};
use mesh_api::Page;
use mesh_api::execution::{Invocation, Step};
use mesh_api::registry::{AgentView, VersionView};
use mesh_types::{AgentName, InvocationId};
use serde_json::json;

use super::Session;
use super::get::{invocation, versions};
use super::{invocations, steps, waits};
use crate::client::Client;
use crate::output::{Output, yaml};

/// Show all of one object, and what belongs to it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DescribeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// An agent, its versions and its latest invocations
    #[command(alias = "agents", after_help = "Examples:\n  mesh describe agent sofia")]
    Agent { name: AgentName },
    /// An invocation and its steps
    #[command(
        alias = "invocations",
        after_help = "Examples:\n  mesh describe invocation inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    )]
    Invocation { id: InvocationId },
}

const EXAMPLES: &str = "Examples:
  mesh describe agent sofia
  mesh describe invocation inv_01ARZ3NDEKTSV4RRFFQ69G5FAV -o json";

/// How many versions and invocations belong to a description.
const LATEST: usize = 5;
const STEPS_MAX: usize = 10_000;

pub(crate) async fn run(args: DescribeArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    match args.what {
        What::Agent { name } => agent(&client, &name, session.output).await,
        What::Invocation { id } => of_invocation(&client, id, session.output).await,
    }
}

async fn agent(client: &Client, name: &AgentName, output: Output) -> anyhow::Result<()> {
    let path = format!("/api/v1/agents/{name}");
    let view: AgentView = client.get(&path, &[]).await?;
    let of_agent = [("agent", Some(name.to_string()))];
    let published: Page<VersionView> = client.list(&format!("{path}/versions"), &[], LATEST).await?;
    let latest: Page<Invocation> = client.list("/api/v1/invocations", &of_agent, LATEST).await?;
    let value = json!({ "agent": view, "versions": published.items, "invocations": latest.items });
    output.show(&value, || {
        output.text(&yaml(&view)?)?;
        if !published.items.is_empty() {
            output.line(&format!("\n{}", output.bold("Latest versions")))?;
            versions(output, &published.items)?;
        }
        if !latest.items.is_empty() {
            output.line(&format!("\n{}", output.bold("Latest invocations")))?;
            invocations::table(output, &latest.items)?;
        }
        Ok(())
    })
}

async fn of_invocation(client: &Client, id: InvocationId, output: Output) -> anyhow::Result<()> {
    let one = invocation(client, id).await?;
    let recorded: Page<Step> = client
        .list(&format!("/api/v1/invocations/{id}/steps"), &[], STEPS_MAX)
        .await?;
    let value = json!({ "invocation": one, "steps": recorded.items });
    output.show(&value, || {
        output.text(&yaml(&one)?)?;
        if recorded.items.is_empty() {
            return Ok(());
        }
        output.line(&format!("\n{}", output.bold("Steps")))?;
        steps::table(output, &recorded.items, &one.waits_for)?;
        for item in &one.waits_for {
            output.note(&waits::line(one.id, item));
        }
        Ok(())
    })
}
