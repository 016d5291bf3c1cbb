//! `mesh invocations`, `cancel`: what ran, and to stop it.

use clap::Args;
use mesh_api::Page;
use mesh_api::execution::{Counts, Invocation, State};
use mesh_types::{AgentName, InvocationId, Timestamp};
use serde_json::{Value, json};

use super::Session;
use super::get::nothing;
use super::waits;
use crate::failure::Usage;
use crate::output::{Output, Table, age, now, shortened, took};

/// List invocations, newest first
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct InvocationsArgs {
    /// Of this agent
    #[arg(short, long)]
    agent: Option<AgentName>,
    /// In this state: queued running waiting completed failed cancelled dead
    #[arg(short, long, value_parser = parse_state)]
    state: Option<State>,
    /// Of this session
    #[arg(long)]
    session: Option<String>,
    /// Children of this invocation
    #[arg(long)]
    parent: Option<InvocationId>,
    /// Of the tree below this invocation
    #[arg(long)]
    root: Option<InvocationId>,
    /// Created at or after, such as 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Created before
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Words in the text, the error or the id
    #[arg(short, long, value_name = "WORDS")]
    query: Option<String>,
    /// At most so many
    #[arg(short, long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Only count them, by state
    #[arg(long)]
    count: bool,
}

const LIST_EXAMPLES: &str = "Examples:
  mesh invocations
  mesh invocations --agent sofia --state failed
  mesh invocations --since 2026-11-21T00:00:00Z --count
  mesh invocations -q refund -o json

`mesh steps ID` shows how one ran, `mesh describe invocation ID` all of it.";

/// Cancel an invocation
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mesh cancel inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --reason \"wrong customer\"")]
pub(crate) struct CancelArgs {
    #[arg(required = true)]
    ids: Vec<InvocationId>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn parse_state(text: &str) -> Result<State, String> {
    text.parse()
        .map_err(|problem: mesh_types::Problem| format!("{}; {}", problem.detail, problem.next.unwrap_or_default()))
}

pub(super) fn parse_id(text: &str) -> anyhow::Result<InvocationId> {
    text.parse()
        .map_err(|error: mesh_types::IdError| Usage(error.to_string()).into())
}

pub(crate) async fn list(args: InvocationsArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    let query = [
        ("agent", args.agent.map(|agent| agent.to_string())),
        ("state", args.state.map(|state| state.as_str().to_owned())),
        ("session", args.session),
        ("parent", args.parent.map(|id| id.to_string())),
        ("root", args.root.map(|id| id.to_string())),
        ("since", args.since.map(|at| at.to_string())),
        ("until", args.until.map(|at| at.to_string())),
        ("q", args.query),
    ];
    if args.count {
        let counts: Counts = client.get("/api/v1/invocations/counts", &query).await?;
        return output.show(&counts, || counted(output, &counts));
    }
    let page: Page<Invocation> = client.list("/api/v1/invocations", &query, args.limit as usize).await?;
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

fn counted(output: Output, counts: &Counts) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["STATE", "COUNT"]);
    let counts = serde_json::to_value(counts)?;
    for name in State::ALL.map(State::as_str).into_iter().chain(["all"]) {
        table.row([name.to_owned(), counts[name].to_string()]);
    }
    table.print()
}

pub(super) fn table(output: Output, items: &[Invocation]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["ID", "AGENT", "STATE", "AGE", "TOOK", "PROVIDER", "RESULT"]);
    let now = now();
    for one in items {
        let took = one.started_at.zip(one.ended_at).map(|(from, to)| took(to.since(from)));
        table.row([
            one.id.to_string(),
            one.agent.to_string(),
            state_of(one),
            age(one.created_at, now),
            took.unwrap_or_default(),
            one.provider.clone().unwrap_or_default(),
            shortened(&result_of(one), 60),
        ]);
    }
    table.print()
}

fn state_of(one: &Invocation) -> String {
    if one.paused && !one.state.is_ended() {
        format!("{}, paused", one.state.as_str())
    } else {
        one.state.as_str().to_owned()
    }
}

/// The answer's text, else the error, else what it waits for, else what was asked.
fn result_of(one: &Invocation) -> String {
    if let Some(error) = &one.error {
        return error.detail.clone();
    }
    if one.state == State::Waiting && !one.waits_for.is_empty() {
        let items: Vec<_> = one.waits_for.iter().map(waits::short).collect();
        return format!("waits for {}", items.join(", "));
    }
    match &one.output {
        Some(output) => text_of(output),
        None => one
            .payload
            .get("text")
            .and_then(Value::as_str)
            .map(|text| format!("({text})"))
            .unwrap_or_default(),
    }
}

/// What a person reads of an output: its text, where it has one.
pub(super) fn text_of(output: &Value) -> String {
    match output.get("text").unwrap_or(output) {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `inv_… completed in 12 ms, provider mock (no model answered), 12+34 tokens`.
pub(super) fn summary(ended: &Invocation) -> String {
    let mut parts = vec![format!("{} {}", ended.id, ended.state.as_str())];
    if let Some(at) = ended.ended_at {
        parts[0].push_str(&format!(" in {}", took(at.since(ended.created_at))));
    }
    if let Some(provider) = &ended.provider {
        let remark = if provider == "mock" {
            " (built in: no model provider answered)"
        } else {
            ""
        };
        parts.push(format!("provider {provider}{remark}"));
    }
    if ended.usage.input_tokens + ended.usage.output_tokens > 0 {
        parts.push(format!(
            "{}+{} tokens",
            ended.usage.input_tokens, ended.usage.output_tokens
        ));
    }
    parts.join(", ")
}

pub(crate) async fn cancel(args: CancelArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    let mut done = Vec::new();
    for id in args.ids {
        let body = json!({ "reason": args.reason });
        let invocation: Invocation = client.post(&format!("/api/v1/invocations/{id}/cancel"), &body).await?;
        if output.is_table() {
            let word = if invocation.state.is_ended() {
                "is"
            } else {
                "will be cancelled; it is"
            };
            output.line(&format!("{id} {word} {}", invocation.state.as_str()))?;
        }
        done.push(invocation);
    }
    if output.is_table() {
        Ok(())
    } else {
        output.show(&json!({ "items": done }), || Ok(()))
    }
}
