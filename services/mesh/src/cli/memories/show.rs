//! `mesh memories list`, `show`: memories as tables and in full.

use clap::Args;
use mesh_api::Page;
use mesh_api::memory::{Memory, MemoryType, Revisions, Scope};
use mesh_types::{AgentName, InvocationId, MemoryId};

use super::{scopes, types};
use crate::cli::get::nothing;
use crate::client::Client;
use crate::output::{Output, Table, age, now, shortened};

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Of this agent
    #[arg(short, long)]
    agent: Option<AgentName>,
    /// Of this type: episodic semantic procedural working
    #[arg(short = 't', long = "type", value_name = "TYPE", hide_possible_values = true, value_parser = types())]
    kind: Option<MemoryType>,
    /// Of this scope: tenant agent session user
    #[arg(long, value_name = "SCOPE", hide_possible_values = true, value_parser = scopes())]
    scope: Option<Scope>,
    /// Of this session
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// With this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// That came of this invocation
    #[arg(long, value_name = "ID")]
    invocation: Option<InvocationId>,
    /// Also those that another memory replaced
    #[arg(long)]
    superseded: bool,
    /// At most so many
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    id: MemoryId,
    /// Also what it was before each change
    #[arg(long)]
    history: bool,
}

pub(super) async fn list(args: ListArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [
        ("agent", args.agent.map(|agent| agent.to_string())),
        ("type", args.kind.map(|kind| kind.as_str().to_owned())),
        ("scope", args.scope.map(|scope| scope.as_str().to_owned())),
        ("session", args.session),
        ("user", args.user),
        ("tag", args.tag),
        ("invocation", args.invocation.map(|id| id.to_string())),
        ("superseded", args.superseded.then(|| "true".to_owned())),
    ];
    let page: Page<Memory> = client.list("/api/v1/memories", &query, args.limit as usize).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            return nothing(output);
        }
        table(output, &page.items)?;
        if page.next.is_some() {
            output.note(&format!("there are more: --limit {}", args.limit.saturating_mul(5)));
        }
        Ok(())
    })
}

fn table(output: Output, items: &[Memory]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["ID", "AGENT", "TYPE", "OF", "AGE", "CONTENT"]);
    let now = now();
    for memory in items {
        table.row([
            memory.id.to_string(),
            memory.agent.to_string(),
            memory.kind.as_str().to_owned(),
            shortened(&owner(memory), 20),
            age(memory.created_at, now),
            shortened(&memory.content, 200),
        ]);
    }
    table.print()
}

/// Who shares it: `agent`, `tenant`, `user ann`.
pub(super) fn owner(memory: &Memory) -> String {
    let name = memory.session.as_ref().or(memory.user.as_ref());
    match name {
        Some(name) if matches!(memory.scope, Scope::Session | Scope::User) => {
            format!("{} {name}", memory.scope.as_str())
        }
        _ => memory.scope.as_str().to_owned(),
    }
}

pub(super) async fn one(args: ShowArgs, client: &Client, output: Output) -> anyhow::Result<()> {
    let path = format!("/api/v1/memories/{}", args.id);
    if args.history {
        let history: Revisions = client.get(&format!("{path}/history"), &[]).await?;
        return output.show(&history, || {
            print(output, &history.memory)?;
            past(output, &history)
        });
    }
    let memory: Memory = client.get(&path, &[]).await?;
    output.show(&memory, || print(output, &memory))
}

fn print(output: Output, memory: &Memory) -> anyhow::Result<()> {
    let now = now();
    output.line(&output.bold(&memory.id.to_string()))?;
    let rows = [
        ("agent", memory.agent.to_string()),
        ("type", memory.kind.as_str().to_owned()),
        ("shared by", owner(memory)),
        ("importance", format!("{:.2}", memory.importance)),
        ("tags", memory.tags.join(" ")),
        ("source", source(memory)),
        ("version", memory.version.to_string()),
        (
            "stored",
            if memory.seen > 1 {
                format!("{} times", memory.seen)
            } else {
                String::new()
            },
        ),
        (
            "embedded",
            if memory.embedded {
                "yes"
            } else {
                "not yet: found by its words only"
            }
            .to_owned(),
        ),
        (
            "replaced by",
            memory.superseded_by.map(|id| id.to_string()).unwrap_or_default(),
        ),
        ("created", format!("{} ago", age(memory.created_at, now))),
        (
            "changed",
            if memory.version > 1 {
                format!("{} ago", age(memory.updated_at, now))
            } else {
                String::new()
            },
        ),
        // The age of what is still to come, seen from there.
        (
            "deleted in",
            memory.expires_at.map(|at| age(now, at)).unwrap_or_default(),
        ),
    ];
    for (what, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        output.line(&format!("  {what:<13}{}", shortened(&value, 400)))?;
    }
    output.line("")?;
    body(output, &memory.content)
}

fn source(memory: &Memory) -> String {
    let source = memory.source.as_ref();
    source.map_or_else(String::new, |source| {
        format!("{}, step {}", source.invocation, source.step)
    })
}

/// Other people's text, line by line, without what would steer the terminal.
fn body(output: Output, text: &str) -> anyhow::Result<()> {
    for line in text.lines() {
        output.line(&format!("  {}", shortened(line, usize::MAX)))?;
    }
    Ok(())
}

fn past(output: Output, history: &Revisions) -> anyhow::Result<()> {
    if history.items.is_empty() {
        output.note("it was never changed");
        return Ok(());
    }
    let now = now();
    for before in &history.items {
        output.line("")?;
        let when = format!(
            "version {}, until {} ago, changed by {}",
            before.version,
            age(before.changed_at, now),
            shortened(&before.changed_by, 60)
        );
        output.line(&output.faint(&when))?;
        body(output, &before.content)?;
    }
    Ok(())
}
