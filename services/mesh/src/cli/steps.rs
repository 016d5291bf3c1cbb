//! `mesh steps`: how an invocation ran, what it waits for, and what a model was asked.

use clap::Args;
use mesh_api::Page;
use mesh_api::execution::Step;
use mesh_api::inference::{FunctionCall, PromptMessage, Role};
use mesh_api::journal::{StepKind, WaitItem};
use mesh_types::InvocationId;
use serde::Deserialize;
use serde_json::Value;

use super::Session;
use super::get::{invocation, nothing};
use super::invocations::text_of;
use super::waits;
use crate::client::Client;
use crate::failure::{Usage, advised};
use crate::output::{Output, Table, shortened, took};

/// Show the journaled steps of an invocation, and what it waits for
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StepsArgs {
    id: InvocationId,
    /// Leave out input and output
    #[arg(long)]
    no_bodies: bool,
    /// Only the prompt of model step N, as the model read it
    #[arg(long, value_name = "N", conflicts_with = "no_bodies", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Option<u32>,
}

const EXAMPLES: &str = "Examples:
  mesh steps inv_01ARZ3NDEKTSV4RRFFQ69G5FAV
  mesh steps inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --prompt 3
  mesh steps inv_01ARZ3NDEKTSV4RRFFQ69G5FAV --json | jq '.items[].output'";

/// Steps of one invocation that are read at most.
const STEPS_MAX: usize = 10_000;

pub(crate) async fn run(args: StepsArgs, session: &Session) -> anyhow::Result<()> {
    let (client, output) = (session.client()?, session.output);
    let path = format!("/api/v1/invocations/{}/steps", args.id);
    if let Some(step) = args.prompt {
        return prompt(&client, output, &path, step).await;
    }
    let bodies = [("bodies", args.no_bodies.then(|| "false".to_owned()))];
    let page: Page<Step> = client.list(&path, &bodies, STEPS_MAX).await?;
    if !output.is_table() {
        return output.show(&page, || Ok(()));
    }
    let one = invocation(&client, args.id).await?;
    if page.items.is_empty() {
        nothing(output)?;
    } else {
        table(output, &page.items, &one.waits_for)?;
    }
    for item in &one.waits_for {
        output.note(&waits::line(one.id, item));
    }
    if one.paused && !one.state.is_ended() {
        output.note(&format!("paused: mesh resume {}", one.id));
    }
    Ok(())
}

pub(super) fn table(output: Output, items: &[Step], waits: &[WaitItem]) -> anyhow::Result<()> {
    let mut table = Table::new(output, &["#", "KIND", "NAME", "TOOK", "TOKENS", "TRY", "RESULT"]);
    for step in items {
        let tokens = match (step.usage.input_tokens, step.usage.output_tokens) {
            (0, 0) => String::new(),
            (input, output) => format!("{input}+{output}"),
        };
        let waits_for = waits.iter().find(|item| item.step == step.number);
        let took = match (step.ended_at, waits_for) {
            (Some(at), _) => took(at.since(step.started_at)),
            (None, Some(_)) => "waits".to_owned(),
            (None, None) => "runs".to_owned(),
        };
        table.row([
            step.number.to_string(),
            step.kind.as_str().to_owned(),
            step.name.clone(),
            took,
            tokens,
            step.attempt.to_string(),
            shortened(&result_of(step, waits_for), 70),
        ]);
    }
    table.print()
}

/// The error, else the answer, else which tools were asked for, else what is waited for.
fn result_of(step: &Step, waits_for: Option<&WaitItem>) -> String {
    if let Some(error) = &step.error {
        return format!("{}: {}", error.kind, error.detail);
    }
    let Some(output) = &step.output else {
        return waits_for
            .filter(|_| step.ended_at.is_none())
            .map(waits::short)
            .unwrap_or_default();
    };
    let text = text_of(output);
    let calls = output.get("tool_calls").and_then(Value::as_array);
    match calls {
        Some(calls) if text.trim().is_empty() && !calls.is_empty() => {
            let names: Vec<_> = calls
                .iter()
                .filter_map(FunctionCall::parse)
                .map(|call| call.name)
                .collect();
            format!("calls {}", names.join(", "))
        }
        _ => text,
    }
}

async fn prompt(client: &Client, output: Output, path: &str, number: u32) -> anyhow::Result<()> {
    let one = [
        ("limit", Some("1".to_owned())),
        ("after", Some((number - 1).to_string())),
    ];
    let page: Page<Step> = client.get(path, &one).await?;
    let Some(step) = page.items.into_iter().find(|step| step.number == number) else {
        return Err(Usage(format!(
            "there is no step {number}: leave --prompt out to see which there are"
        ))
        .into());
    };
    if step.kind != StepKind::Model {
        return Err(Usage(format!(
            "step {number} is a {} step: only model steps have a prompt",
            step.kind.as_str()
        ))
        .into());
    }
    let messages = step.input.as_ref().and_then(|input| input.get("messages")).cloned();
    let messages = messages.map(Vec::<PromptMessage>::deserialize).transpose();
    let Ok(Some(messages)) = messages else {
        let next = "--json without --prompt shows the step as it is recorded";
        return Err(advised(
            anyhow::anyhow!("the prompt of step {number} cannot be read"),
            next,
        ));
    };
    output.show(&messages, || {
        for message in &messages {
            output.text(&said(output, message))?;
        }
        Ok(())
    })
}

/// One message: who, what, and which tools it asks for or answers.
fn said(output: Output, message: &PromptMessage) -> String {
    let who = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let of_call = message
        .tool_call_id
        .as_deref()
        .map(|id| format!(" {}", output.faint(id)));
    let mut text = format!("{}{}\n", output.bold(who), of_call.unwrap_or_default());
    let content = message.content.plain_text();
    if !content.is_empty() {
        text.push_str(content.trim_end());
        text.push('\n');
    }
    for call in message.tool_calls.iter().filter_map(FunctionCall::parse) {
        text.push_str(&format!(
            "{} {}({})\n",
            output.faint(&call.id),
            call.name,
            call.arguments
        ));
    }
    text.push('\n');
    text
}
