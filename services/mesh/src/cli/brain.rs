//! `mesh brain`: the state of the whole mesh on one screen.

use clap::Args;
use mesh_api::fleet::NodeStatus;
use mesh_api::reconciler::{Brain, Pass};
use mesh_types::Timestamp;

use super::Session;
use super::plan::{idle, lacking, sentence};
use super::width;
use crate::output::{Mood, Output, Table, age, now, terminal_width};

/// Show the whole mesh: services, nodes, agents, what differs from what should be, and the last passes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BrainArgs {}

const EXAMPLES: &str = "Examples:
  mesh brain
  mesh brain -o json | jq -r '.drift[]'
  watch -n 1 mesh brain

`mesh plan` shows what would be done about each difference.";

/// Actions of one pass that fit the screen.
const ACTIONS_MAX: usize = 5;

pub(crate) async fn run(_args: BrainArgs, session: &Session) -> anyhow::Result<()> {
    let brain: Brain = session.client()?.get("/api/v1/brain/state", &[]).await?;
    let output = session.output;
    output.show(&brain, || {
        let now = now();
        head(output, &brain, now)?;
        nodes(output, &brain, now)?;
        agents(output, &brain)?;
        drift(output, &brain)?;
        title(output, "PASSES")?;
        for pass in &brain.passes {
            one_pass(output, pass, now)?;
        }
        Ok(())
    })
}

fn title(output: Output, text: &str) -> anyhow::Result<()> {
    output.line(&format!("\n{}", output.bold(text)))
}

fn head(output: Output, brain: &Brain, now: Timestamp) -> anyhow::Result<()> {
    match &brain.leader {
        Some(leader) => output.line(&format!("Reconciler {leader} leads, epoch {}", brain.epoch))?,
        None => output.line(&output.mood(Mood::Bad, "No reconciler leads: nothing is placed or replaced"))?,
    }
    let services = brain.services.iter().map(|service| {
        if service.degraded {
            let text = format!("{} silent for {}", service.name, age(service.since, now));
            (output.mood(Mood::Bad, &text), text.chars().count())
        } else {
            let text = format!("{} {}", service.name, service.instances);
            let shown = text.chars().count();
            (text, shown)
        }
    });
    for line in width::listed("Services   ", &services.collect::<Vec<_>>(), terminal_width()) {
        output.line(&line)?;
    }
    Ok(())
}

fn nodes(output: Output, brain: &Brain, now: Timestamp) -> anyhow::Result<()> {
    title(output, "NODES")?;
    if brain.nodes.is_empty() {
        return output.line("none; `mesh node` makes this machine one");
    }
    let mut table = Table::new(
        output,
        &["ID", "NAME", "OWNER", "MODE", "STATUS", "REPLICAS", "SLOTS", "SEEN"],
    );
    for node in &brain.nodes {
        let status = match node.status {
            NodeStatus::Online if node.drained => "drained".to_owned(),
            status => word(&status),
        };
        table.row([
            node.node_id.to_string(),
            node.name.clone(),
            node.owner.clone(),
            word(&node.mode),
            status,
            node.replicas.to_string(),
            node.slots.to_string(),
            node.last_seen_at.map_or_else(|| "never".to_owned(), |at| age(at, now)),
        ]);
    }
    table.print()
}

fn agents(output: Output, brain: &Brain) -> anyhow::Result<()> {
    if brain.agents.is_empty() {
        return Ok(());
    }
    title(output, "AGENTS WITH A PLACEMENT")?;
    let mut table = Table::new(output, &["AGENT", "VERSION", "SERVING", "READY", "WAITING", "RUNNING"]);
    for agent in &brain.agents {
        table.row([
            agent.agent.to_string(),
            format!("v{}", agent.version),
            agent
                .serving
                .map_or_else(|| "-".to_owned(), |version| format!("v{version}")),
            format!("{}/{}", agent.ready, agent.wanted),
            agent.waiting.to_string(),
            agent.running.to_string(),
        ]);
    }
    table.print()
}

fn drift(output: Output, brain: &Brain) -> anyhow::Result<()> {
    title(output, "DRIFT")?;
    if brain.drift.is_empty() {
        return match lacking(&brain.agents) {
            Some(text) => output.line(&format!("{} {text}", output.mood(Mood::Doubtful, "!"))),
            None => output.line(&output.mood(Mood::Good, "none: all is as it should be")),
        };
    }
    for line in &brain.drift {
        let line: String = line.chars().filter(|letter| !letter.is_control()).collect();
        output.line(&format!("{} {line}", output.mood(Mood::Doubtful, "!")))?;
    }
    Ok(())
}

fn one_pass(output: Output, pass: &Pass, now: Timestamp) -> anyhow::Result<()> {
    let when = output.faint(&format!("{:>5} ago", age(pass.at, now)));
    if let Some(error) = &pass.error {
        let error: String = error.chars().filter(|letter| !letter.is_control()).collect();
        return output.line(&format!("{when}  {}", output.mood(Mood::Bad, &error)));
    }
    if pass.actions.is_empty() {
        let text = idle(&pass.seen);
        return output.line(&format!("{when}  {text} ({:.0} ms)", pass.took_ms));
    }
    for action in pass.actions.iter().take(ACTIONS_MAX) {
        output.line(&format!("{when}  {}", sentence(output, action)))?;
    }
    let rest = pass.actions.len().saturating_sub(ACTIONS_MAX) + pass.more as usize;
    if rest > 0 {
        output.line(&format!("{when}  {}", output.faint(&format!("and {rest} more"))))?;
    }
    Ok(())
}

/// The word that the API has for it.
fn word<T: serde::Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or("?").to_owned()
}
