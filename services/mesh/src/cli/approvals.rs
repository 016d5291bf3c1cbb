//! `mesh approvals`, `approve`, `deny`: what waits for a person, and the decision.

use clap::Args;
use mesh_api::Page;
use mesh_api::execution::Invocation;
use mesh_api::journal::{WaitItem, WaitOn};
use mesh_api::steering::{Approval, Decision};
use mesh_types::InvocationId;
use serde_json::{Value, json};

use super::Session;
use super::get::{invocation, nothing};
use crate::client::Client;
use crate::failure::{Usage, advised};
use crate::output::{Output, Table, age, now, shortened};

/// List what waits for a person
///
/// Tool calls that need approval, and steps of which nobody knows whether they happened (`ambiguous`).
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ApprovalsArgs {
    /// At most so many
    #[arg(short, long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

const LIST_EXAMPLES: &str = "Examples:
  mesh approvals
  mesh approvals -o json | jq '.items[].input'

`mesh approve ID` and `mesh deny ID` decide.";

/// Let a tool call run
///
/// Of an ambiguous step it means: it has not happened, run it again; with --result: it happened, this came of it.
#[derive(Debug, Args)]
#[command(after_help = APPROVE_EXAMPLES)]
pub(crate) struct ApproveArgs {
    /// As `mesh approvals` lists it; the invocation is enough where only one thing waits
    id: String,
    /// For the journal
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Result of an ambiguous step that has happened; what is no JSON is taken as text
    #[arg(long, value_name = "JSON")]
    result: Option<String>,
}

const APPROVE_EXAMPLES: &str = "Examples:
  mesh approve inv_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh approve inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-4 --note \"checked with Ann\"
  mesh approve inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-4 --result '{\"sent\": true}'";

/// Refuse a tool call
///
/// The agent reads the refusal with its note, and goes on without the call's result.
#[derive(Debug, Args)]
#[command(after_help = DENY_EXAMPLES)]
pub(crate) struct DenyArgs {
    /// As `mesh approvals` lists it; the invocation is enough where only one thing waits
    id: String,
    /// Why, for the journal and the agent
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

const DENY_EXAMPLES: &str = "Examples:
  mesh deny inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --note \"over the limit\"
  mesh deny inv_01ARZ3NDEKTSV4RRFFQ69G5FAV-4";

pub(crate) async fn list(args: ApprovalsArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let page: Page<Approval> = client.list("/api/v1/approvals", &[], args.limit as usize).await?;
    let output = session.output;
    output.show(&page, || {
        if page.items.is_empty() {
            return nothing(output);
        }
        table(output, &page.items)
    })
}

fn table(output: Output, items: &[Approval]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["ID", "AGENT", "KIND", "AGE", "TOOL", "ARGUMENTS"]);
    let now = now();
    for one in items {
        table.row([
            one.id.clone(),
            one.agent.to_string(),
            one.kind.clone(),
            age(one.since, now),
            one.name.clone(),
            shortened(&one.input.to_string(), 120),
        ]);
    }
    table.print()
}

pub(crate) async fn approve(args: ApproveArgs, session: &Session) -> anyhow::Result<()> {
    let result = args.result.map(|text| super::steering::value_of(&text));
    decide(&args.id, Decision::Approve, args.note, result, session).await
}

pub(crate) async fn deny(args: DenyArgs, session: &Session) -> anyhow::Result<()> {
    decide(&args.id, Decision::Deny, args.note, None, session).await
}

async fn decide(
    id: &str,
    decision: Decision,
    note: Option<String>,
    result: Option<Value>,
    session: &Session,
) -> anyhow::Result<()> {
    let client = session.client()?;
    let id = match named(id)? {
        (invocation, Some(step)) => request_id(invocation, step),
        (invocation, None) => only_one(&client, invocation).await?,
    };
    let mut body = json!({ "decision": decision, "note": note });
    if let Some(result) = result {
        body["output"] = result;
    }
    let decided: Invocation = client.post(&format!("/api/v1/approvals/{id}"), &body).await?;
    let output = session.output;
    output.show(&decided, || {
        let word = match decision {
            Decision::Approve => "approved",
            Decision::Deny => "denied",
        };
        output.line(&format!("{id} {word}; the invocation is {}", decided.state.as_str()))
    })
}

/// `<invocation>-<step>`, or the invocation alone.
fn named(text: &str) -> anyhow::Result<(InvocationId, Option<u32>)> {
    let (id, step) = match text.rsplit_once('-') {
        Some((id, step)) => (id, Some(step)),
        None => (text, None),
    };
    let step = step.map(str::parse::<u32>).transpose();
    match (id.parse::<InvocationId>(), step) {
        (Ok(id), Ok(step)) => Ok((id, step)),
        _ => {
            let shown = shortened(text, 64);
            Err(Usage(format!(
                "`{shown}` is neither an invocation's id nor one of `mesh approvals`"
            ))
            .into())
        }
    }
}

pub(super) fn request_id(invocation: InvocationId, step: u32) -> String {
    format!("{invocation}-{step}")
}

pub(super) fn is_for_a_person(item: &WaitItem) -> bool {
    matches!(item.on, WaitOn::Approval { .. } | WaitOn::Ambiguous { .. })
}

/// The one thing of an invocation that waits for a person.
async fn only_one(client: &Client, id: InvocationId) -> anyhow::Result<String> {
    let one = invocation(client, id).await?;
    let waiting: Vec<_> = one.waits_for.iter().filter(|item| is_for_a_person(item)).collect();
    match waiting.as_slice() {
        [item] => Ok(request_id(id, item.step)),
        [] => Err(advised(
            anyhow::anyhow!("nothing of {id} waits for a person; it is {}", one.state.as_str()),
            "mesh approvals lists what waits",
        )),
        several => {
            let ids: Vec<_> = several.iter().map(|item| request_id(id, item.step)).collect();
            Err(Usage(format!(
                "{} things of it wait: name one of {}",
                ids.len(),
                ids.join(", ")
            ))
            .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_its_invocation_or_in_full() {
        let id = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let parsed: InvocationId = id.parse().unwrap();
        assert_eq!(named(id).unwrap(), (parsed, None));
        assert_eq!(named(&format!("{id}-12")).unwrap(), (parsed, Some(12)));
        for wrong in ["", "sofia", "inv_x-1", &format!("{id}-"), &format!("{id}-x")] {
            assert!(named(wrong).unwrap_err().is::<Usage>(), "{wrong}");
        }
    }
}
