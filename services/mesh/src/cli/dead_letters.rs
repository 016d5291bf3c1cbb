//! `mesh dead-letters`: what could not be handled, with the reason, until a person settles it.

use clap::{Args, Subcommand};
use mesh_api::Page;
use mesh_api::execution::DeadLetter;
use mesh_api::steering::Requeued;
use mesh_types::DeadLetterId;
use serde_json::json;

use super::Session;
use super::get::nothing;
use crate::client::Client;
use crate::failure::{Usage, problem_text};
use crate::output::{Output, Table, age, now, shortened, yaml};

/// List what could not be handled, with the reason; settle it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Settled ones too
    #[arg(short, long)]
    all: bool,
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Settle dead letters: nothing is to be done about them
    #[command(after_help = "Examples:\n  mesh dead-letters discard ded_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Discard {
        #[arg(required = true)]
        ids: Vec<DeadLetterId>,
    },
    /// Do their work after all: each goes on as a new invocation, from what is recorded
    #[command(after_help = "Examples:\n  mesh dead-letters requeue ded_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Requeue {
        #[arg(required = true)]
        ids: Vec<DeadLetterId>,
    },
    /// Show one, with its message
    #[command(after_help = "Examples:\n  mesh dead-letters show ded_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Show { id: DeadLetterId },
}

const EXAMPLES: &str = "Examples:
  mesh dead-letters
  mesh dead-letters --all -o json
  mesh dead-letters show ded_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh dead-letters requeue ded_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh dead-letters discard ded_01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Open,
    All,
}

pub(crate) async fn run(args: DeadLettersArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    match args.action {
        Some(Action::Discard { ids }) => discard(&client, output, ids).await,
        Some(Action::Requeue { ids }) => requeue(&client, output, ids).await,
        Some(Action::Show { id }) => show_one(&client, output, &id.to_string()).await,
        None => {
            let which = if args.all { Which::All } else { Which::Open };
            list(&client, output, args.limit as usize, which).await
        }
    }
}

pub(super) async fn list(client: &Client, output: Output, limit: usize, which: Which) -> anyhow::Result<()> {
    let all = [("all", (which == Which::All).then(|| "true".to_owned()))];
    let page: Page<DeadLetter> = client.list("/api/v1/dead-letters", &all, limit).await?;
    output.show(&page, || {
        if page.items.is_empty() {
            return nothing(output);
        }
        let mut table = Table::new(output, &["ID", "ORIGIN", "AGE", "SETTLED", "REASON"]);
        let now = now();
        for letter in &page.items {
            table.row([
                letter.id.to_string(),
                letter.origin.clone(),
                age(letter.created_at, now),
                letter.settled.clone().unwrap_or_default(),
                shortened(&problem_text(&letter.reason), 90),
            ]);
        }
        table.print()
    })
}

pub(super) async fn show_one(client: &Client, output: Output, id: &str) -> anyhow::Result<()> {
    let id: DeadLetterId = id
        .parse()
        .map_err(|error: mesh_types::IdError| Usage(error.to_string()))?;
    let letter: DeadLetter = client.get(&format!("/api/v1/dead-letters/{id}"), &[]).await?;
    output.show(&letter, || output.text(&yaml(&letter)?))
}

async fn discard(client: &Client, output: Output, ids: Vec<DeadLetterId>) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let letter: DeadLetter = client
            .post(&format!("/api/v1/dead-letters/{id}/discard"), &json!({}))
            .await?;
        if output.is_table() {
            output.line(&format!("{id} discarded"))?;
        }
        done.push(letter);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}

async fn requeue(client: &Client, output: Output, ids: Vec<DeadLetterId>) -> anyhow::Result<()> {
    let mut done = Vec::new();
    for id in ids {
        let requeued: Requeued = client
            .post(&format!("/api/v1/dead-letters/{id}/requeue"), &json!({}))
            .await?;
        if output.is_table() {
            let invocation = &requeued.invocation;
            output.line(&format!(
                "{id} goes on as {}, {}",
                invocation.id,
                invocation.state.as_str()
            ))?;
        }
        done.push(requeued);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}
