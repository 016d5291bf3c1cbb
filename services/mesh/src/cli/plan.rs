//! `mesh plan`: what the reconciler would do now and why, without doing it.

use clap::Args;
use mesh_api::reconciler::{Action, ActionKind, Pass, Seen};
use reqwest::Method;
use serde_json::Value;

use super::Session;
use crate::output::{Mood, Output};

/// Show what the reconciler would do now, and why; nothing is applied
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanArgs {}

const EXAMPLES: &str = "Examples:
  mesh plan
  mesh plan -o json | jq -r '.actions[].sentence'

Empty: all is as it should be. What was done before is in `mesh brain`.";

pub(crate) async fn run(_args: PlanArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let pass: Pass = client.send(Method::POST, "/api/v1/plan", &[], None::<&Value>).await?;
    let output = session.output;
    output.show(&pass, || {
        for action in &pass.actions {
            output.line(&sentence(output, action))?;
        }
        if pass.more > 0 {
            output.line(&output.faint(&format!("and {} more", pass.more)))?;
        }
        if pass.actions.is_empty() {
            output.line("nothing to do: all is as it should be")?;
        }
        output.note(&output.faint(&seen(&pass.seen)));
        Ok(())
    })
}

/// An action as its sentence, marked by what it means.
pub(super) fn sentence(output: Output, action: &Action) -> String {
    let text: String = action.sentence.chars().filter(|letter| !letter.is_control()).collect();
    let (sign, mood) = match action.kind {
        ActionKind::Place => ("+", Mood::Good),
        ActionKind::Stop | ActionKind::Remove => ("-", Mood::Doubtful),
        ActionKind::Serve | ActionKind::Scale => ("~", Mood::Good),
        ActionKind::Hold => ("!", Mood::Doubtful),
        ActionKind::RollBack => ("!", Mood::Bad),
    };
    format!("{} {text}", output.mood(mood, sign))
}

pub(super) fn seen(seen: &Seen) -> String {
    let Seen {
        nodes,
        nodes_alive,
        agents,
        replicas_wanted,
        replicas_ready,
        waiting,
        ..
    } = seen;
    let queue = if *waiting > 0 {
        format!(", {waiting} invocations wait")
    } else {
        String::new()
    };
    format!(
        "{nodes_alive} of {nodes} nodes are there, {agents} agents want {replicas_wanted} replicas, \
         {replicas_ready} are ready{queue}"
    )
}
