//! `mesh nodes`, `mesh node drain`: the machines that run agents, as far as they may be seen.

use clap::{Args, Subcommand};
use mesh_api::Page;
use mesh_api::fleet::{NodeEntry, NodeRecord, NodeStatus};
use mesh_types::NodeId;
use mesh_types::fleet::{NodeMode, ReplicaState};
use reqwest::Method;
use serde_json::json;

use super::Session;
use super::get::nothing;
use super::named;
use crate::client::Client;
use crate::output::{Mood, Output, Table, age, now, yaml};

/// List the machines that run agents: your own, and those that others share with you
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    action: Option<NodesAction>,
    /// At most so many
    #[arg(short, long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum NodesAction {
    /// Show one: whom it serves, its health, what it runs
    #[command(after_help = "Examples:\n  mesh nodes show kitchen\n  mesh nodes show kitchen -o json")]
    Show {
        /// Its id, or its name
        #[arg(value_name = "NODE")]
        id: String,
    },
    /// Forget nodes that do not come back: their ids are free again
    #[command(after_help = "Examples:\n  mesh nodes forget kitchen")]
    Forget {
        /// Ids, or names
        #[arg(required = true, value_name = "NODE")]
        ids: Vec<String>,
    },
}

/// What `mesh node` does besides being one.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeAction {
    /// Move everything off nodes, and place nothing there
    #[command(after_help = "Examples:\n  mesh node drain kitchen\n  mesh nodes                what still runs there")]
    Drain {
        /// Ids, or names
        #[arg(required = true, value_name = "NODE")]
        ids: Vec<String>,
    },
    /// Take a drain back: the nodes are placed on again
    #[command(after_help = "Examples:\n  mesh node undrain kitchen")]
    Undrain {
        /// Ids, or names
        #[arg(required = true, value_name = "NODE")]
        ids: Vec<String>,
    },
}

const EXAMPLES: &str = "Examples:
  mesh nodes
  mesh nodes show kitchen
  mesh node drain kitchen
  mesh nodes forget kitchen

`mesh node` makes this machine a node; `mesh plan` says what would be placed where, and why.";

pub(crate) async fn run(args: NodesArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    match args.action {
        None => list(&client, output, args.limit as usize).await,
        Some(NodesAction::Show { id }) => show_one(&client, output, &id).await,
        Some(NodesAction::Forget { ids }) => forget(&client, output, named::all(&client, &ids).await?).await,
    }
}

pub(super) async fn act(action: NodeAction, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let (ids, wanted) = match action {
        NodeAction::Drain { ids } => (ids, Wanted::Empty),
        NodeAction::Undrain { ids } => (ids, Wanted::InUse),
    };
    // All of them before the first: a name that nobody has must not leave the work half done.
    let ids = named::all(&client, &ids).await?;
    drain(&client, session.output, ids, wanted).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Empty,
    InUse,
}

pub(super) async fn list(client: &Client, output: Output, limit: usize) -> anyhow::Result<()> {
    let page: Page<NodeRecord> = client.list("/api/v1/nodes", &[], limit).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            nothing(output)?;
            output.note("mesh node makes this machine one");
            return Ok(());
        }
        let header = ["NODE", "NAME", "OWNER", "MODE", "STATUS", "SLOTS", "RUNNING", "SEEN"];
        let mut table = Table::new(output, &header);
        for record in &page.items {
            let entry = &record.entry;
            let name = Some(&entry.name).filter(|name| name.as_str() != entry.node_id.as_str());
            table.row([
                entry.node_id.to_string(),
                name.cloned().unwrap_or_default(),
                entry.owner.clone(),
                mode(entry.configuration.mode).to_owned(),
                status(record),
                entry.slots.to_string(),
                record.running.to_string(),
                record
                    .last_seen_at
                    .map_or_else(|| "never".to_owned(), |at| age(at, now())),
            ]);
        }
        table.print()
    })
}

pub(super) async fn show_one(client: &Client, output: Output, node: &str) -> anyhow::Result<()> {
    let id = named::one(client, node).await?;
    let record: NodeRecord = client.get(&format!("/api/v1/nodes/{id}"), &[]).await?;
    output.show(&record, || show(output, &record))
}

fn show(output: Output, record: &NodeRecord) -> anyhow::Result<()> {
    let NodeEntry {
        node_id,
        name,
        owner,
        tenant,
        configuration,
        labels,
        capabilities,
        slots,
        registered_at,
        ..
    } = &record.entry;
    let now = now();
    let ago = |at: Option<_>| at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", age(at, now)));
    output.line(&output.bold(&format!("{node_id}  {name}")))?;
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut rows = vec![
        ("owner", format!("{owner} of tenant {tenant}")),
        ("mode", mode(configuration.mode).to_owned()),
        ("status", mood(output, record)),
        ("registered", ago(Some(*registered_at))),
        ("seen", ago(record.last_seen_at)),
        ("health", ago(record.last_health_at)),
        ("slots", format!("{} of {slots} in use", record.running)),
        ("labels", labels.join(" ")),
        ("capabilities", capabilities.join(" ")),
    ];
    if let Some(account) = &configuration.billable_account_handle {
        rows.push(("billed to", account.clone()));
    }
    if configuration.mode == NodeMode::Shared {
        rows.push(("shared", serde_json::to_string(&configuration.sharing)?));
    }
    for (what, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        output.line(&format!("  {what:<13}{value}"))?;
    }
    if let Some(health) = &record.health {
        output.line(&format!("\n{}", output.faint("health")))?;
        output.text(&yaml(health)?)?;
    }
    if record.replicas.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let mut table = Table::new(output, &["REPLICA", "AGENT", "VERSION", "STATE", "RUNNING", "DETAIL"]);
    for replica in &record.replicas {
        table.row([
            replica.replica.to_string(),
            replica.agent.to_string(),
            replica.version.to_string(),
            replica_state(replica.state).to_owned(),
            replica.running.to_string(),
            replica.detail.clone(),
        ]);
    }
    table.print()
}

async fn drain(client: &Client, output: Output, ids: Vec<NodeId>, wanted: Wanted) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let body = json!({"drained": wanted == Wanted::Empty});
        let record: NodeRecord = client.post(&format!("/api/v1/nodes/{id}/drain"), &body).await?;
        if output.is_table() {
            output.line(&match wanted {
                Wanted::Empty => drains(&id, record.replicas.len()),
                Wanted::InUse => format!("{id} is placed on again"),
            })?;
        }
        done.push(record);
    }
    told(output, &done)
}

/// Whether other nodes have room is not known here: nothing is promised.
fn drains(id: &NodeId, replicas: usize) -> String {
    match replicas {
        0 => format!("{id} drains: nothing runs there"),
        1 => format!("{id} drains: its replica will move as soon as another node has room"),
        replicas => format!("{id} drains: its {replicas} replicas will move as soon as other nodes have room"),
    }
}

async fn forget(client: &Client, output: Output, ids: Vec<NodeId>) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let path = format!("/api/v1/nodes/{id}");
        let entry: NodeEntry = client.send::<(), _>(Method::DELETE, &path, &[], None).await?;
        if output.is_table() {
            output.line(&format!("{id} forgotten"))?;
        }
        done.push(entry);
    }
    told(output, &done)
}

/// For programs, what was done as one value.
fn told<T: serde::Serialize>(output: Output, done: &[T]) -> anyhow::Result<()> {
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}

fn status(record: &NodeRecord) -> String {
    let status = match record.status {
        NodeStatus::Registered => "registered",
        NodeStatus::Online => "online",
        NodeStatus::Deaf => "deaf",
        NodeStatus::Offline => "offline",
    };
    if record.entry.drained {
        format!("{status}, drained")
    } else {
        status.to_owned()
    }
}

fn mood(output: Output, record: &NodeRecord) -> String {
    let mood = match record.status {
        NodeStatus::Online if !record.entry.drained => Mood::Good,
        NodeStatus::Offline => Mood::Bad,
        _ => Mood::Doubtful,
    };
    output.mood(mood, &status(record))
}

const fn mode(mode: NodeMode) -> &'static str {
    match mode {
        NodeMode::Private => "private",
        NodeMode::Shared => "shared",
        NodeMode::Sleep => "sleep",
    }
}

const fn replica_state(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Starting => "starting",
        ReplicaState::Ready => "ready",
        ReplicaState::Stopping => "stopping",
        ReplicaState::Failed => "failed",
    }
}
