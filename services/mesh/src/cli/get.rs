//! `mesh get`: lists, and single objects by name.

use clap::{Args, ValueEnum};
use mesh_api::Page;
use mesh_api::execution::Invocation;
use mesh_api::inference::ModelList;
use mesh_api::registry::{AgentView, TenantView, VersionView};
use mesh_types::{AgentName, InvocationId};

use super::Session;
use super::dead_letters;
use super::invocations;
use super::nodes;
use super::steering;
use crate::client::Client;
use crate::failure::Usage;
use crate::output::{Output, Table, age, now, shortened};

/// List objects, or show one by name
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    /// What to list
    #[arg(value_enum)]
    what: What,
    /// One of them; the agent whose versions are meant
    name: Option<String>,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    #[value(alias = "agent")]
    Agents,
    #[value(alias = "invocation")]
    Invocations,
    #[value(alias = "tenant")]
    Tenants,
    /// Published versions of one agent
    #[value(alias = "version")]
    Versions,
    #[value(alias = "model")]
    Models,
    #[value(alias = "dead-letter")]
    DeadLetters,
    #[value(alias = "node")]
    Nodes,
    /// What is held: agents, the tenant, everything
    #[value(alias = "pause")]
    Pauses,
}

const EXAMPLES: &str = "Examples:
  mesh get agents
  mesh get agents sofia -o yaml
  mesh get versions sofia
  mesh get invocations --limit 10
  mesh get tenants -o json

`mesh invocations` filters; `mesh describe` shows more of one.";

pub(crate) async fn run(args: GetArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let (output, limit) = (session.output, args.limit as usize);
    match (args.what, args.name) {
        (What::Agents, None) => {
            let page: Page<AgentView> = client.list("/api/v1/agents", &[], limit).await?;
            show(output, &page, &page.items, agents)
        }
        (What::Agents, Some(name)) => {
            let view: AgentView = client
                .get(&format!("/api/v1/agents/{}", agent_name(&name)?), &[])
                .await?;
            show(output, &view, std::slice::from_ref(&view), agents)
        }
        (What::Invocations, None) => {
            let page: Page<Invocation> = client.list("/api/v1/invocations", &[], limit).await?;
            show(output, &page, &page.items, invocations::table)
        }
        (What::Invocations, Some(id)) => {
            let id = invocations::parse_id(&id)?;
            let invocation = invocation(&client, id).await?;
            show(
                output,
                &invocation,
                std::slice::from_ref(&invocation),
                invocations::table,
            )
        }
        (What::Tenants, None) => {
            let page: Page<TenantView> = client.list("/api/v1/tenants", &[], limit).await?;
            show(output, &page, &page.items, tenants)
        }
        (What::Versions, Some(name)) => {
            let path = format!("/api/v1/agents/{}/versions", agent_name(&name)?);
            let page: Page<VersionView> = client.list(&path, &[], limit).await?;
            show(output, &page, &page.items, versions)
        }
        (What::Versions, None) => Err(Usage("name the agent: mesh get versions AGENT".into()).into()),
        (What::Models, None) => models(&client, output).await,
        (What::DeadLetters, None) => dead_letters::list(&client, output, limit, dead_letters::Which::Open).await,
        (What::DeadLetters, Some(id)) => dead_letters::show_one(&client, output, &id).await,
        (What::Nodes, None) => nodes::list(&client, output, limit).await,
        (What::Nodes, Some(id)) => nodes::show_one(&client, output, &id).await,
        (What::Pauses, None) => steering::list(&client, output).await,
        (What::Tenants | What::Models | What::Pauses, Some(_)) => {
            Err(Usage("these are only listed: leave the name out".into()).into())
        }
    }
}

fn show<V: serde::Serialize, T>(
    output: Output,
    value: &V,
    items: &[T],
    table: fn(Output, &[T]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    output.show(value, || {
        if items.is_empty() {
            nothing(output)
        } else {
            table(output, items)
        }
    })
}

/// An empty list says so, beside the result.
pub(super) fn nothing(output: Output) -> anyhow::Result<()> {
    output.note("there are none");
    Ok(())
}

pub(super) fn agent_name(text: &str) -> anyhow::Result<AgentName> {
    text.parse().map_err(unnamed)
}

fn unnamed(error: mesh_types::NameError) -> anyhow::Error {
    Usage(error.to_string()).into()
}

pub(super) async fn invocation(client: &Client, id: InvocationId) -> anyhow::Result<Invocation> {
    client.get(&format!("/api/v1/invocations/{id}"), &[]).await
}

fn agents(output: Output, items: &[AgentView]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["NAME", "RUNTIME", "MODEL", "PUBLISHED", "DRAFT", "AGE"]);
    let now = now();
    for agent in items {
        let published = agent.status.published.as_ref();
        table.row([
            agent.metadata.name.to_string(),
            agent.spec.runtime.as_str().to_owned(),
            agent.spec.model.name.clone(),
            published.map_or_else(|| "no".to_owned(), |published| format!("version {}", published.version)),
            if agent.status.draft { "yes" } else { "no" }.to_owned(),
            age(agent.status.created_at, now),
        ]);
    }
    table.print()
}

fn tenants(output: Output, items: &[TenantView]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["NAME", "AGE"]);
    let now = now();
    for tenant in items {
        table.row([tenant.name.to_string(), age(tenant.created_at, now)]);
    }
    table.print()
}

pub(super) fn versions(output: Output, items: &[VersionView]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["VERSION", "CURRENT", "HASH", "BY", "AGE"]);
    let now = now();
    for version in items {
        table.row([
            version.version.to_string(),
            if version.current { "yes" } else { "" }.to_owned(),
            shortened(&version.hash, 16),
            version.created_by.clone(),
            age(version.created_at, now),
        ]);
    }
    table.print()
}

async fn models(client: &Client, output: Output) -> anyhow::Result<()> {
    let list: ModelList = client.get("/api/v1/models", &[]).await?;
    output.show(&list, || {
        let mut table = Table::new(output, &["MODEL", "PROVIDER", "CONFIGURED"]);
        for model in &list.items {
            let configured = if model.available { "yes" } else { "no" };
            table.row([model.name.as_str(), model.provider.as_str(), configured]);
        }
        table.print()
    })
}
