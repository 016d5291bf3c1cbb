//! `mesh apply`: makes the declared objects so, and publishes them.

use clap::Args;
use mesh_api::registry::{AgentView, Published};
use mesh_types::Problem;
use mesh_types::agent::Agent;
use reqwest::Method;
use serde::Serialize;
use serde_json::json;

use super::Session;
use super::declared::{Document, FileArgs, read_all, tell};
use crate::client::Client;
use crate::failure::Told;

/// Create or update what files declare, and publish it
///
/// Goes on after an error and fails at the end; each error names file, document and field. Applying the same again
/// changes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Only declare: new invocations go on with the published version
    #[arg(long)]
    no_publish: bool,
}

const EXAMPLES: &str = "Examples:
  mesh apply -f sofia.yaml
  mesh apply -f agents/ -f more.json
  cat sofia.yaml | mesh apply -f -
  mesh apply -f agents/ --tenant daarion -o json";

#[derive(Debug, Serialize)]
struct Applied {
    kind: &'static str,
    tenant: String,
    name: String,
    /// `created`, `updated` or `unchanged`.
    action: &'static str,
    published: Option<Published>,
}

pub(crate) async fn run(args: ApplyArgs, session: &Session) -> anyhow::Result<()> {
    let documents = read_all(&args.files)?;
    let client = session.client()?;
    let (output, total) = (session.output, documents.len());
    let (mut failed, mut told, mut done): (usize, usize, Vec<Applied>) = (0, 0, Vec::new());
    for Document { place, agent } in documents {
        let applied = match agent {
            Ok(agent) => apply(&client, &agent, !args.no_publish, &mut done).await,
            Err(problem) => Err(problem.into()),
        };
        // What was declared is told also where it could not be published.
        for applied in done.iter().skip(told).filter(|_| output.is_table()) {
            output.line(&sentence(applied))?;
        }
        told = done.len();
        match applied {
            Ok(()) => {}
            Err(error) if error.is::<Problem>() => {
                failed += 1;
                tell(output, &place, &error);
            }
            // Not about this object: the next would fail as well.
            Err(error) => return Err(error),
        }
    }
    if !output.is_table() {
        output.show(&json!({ "items": done, "failed": failed }), || Ok(()))?;
    }
    if failed == 0 {
        return Ok(());
    }
    output.note(&format!("{failed} of {total} documents failed"));
    Err(Told.into())
}

async fn apply(client: &Client, agent: &Agent, publishes: bool, done: &mut Vec<Applied>) -> anyhow::Result<()> {
    let tenant = Document::tenant(agent, client)?;
    let client = client.for_tenant(tenant.clone());
    let name = &agent.metadata.name;
    let path = format!("/api/v1/agents/{name}");
    let before: Option<AgentView> = client.find(&path).await?;
    let missing = [("missing", Some("create".to_owned()))];
    let after: AgentView = client.send(Method::PUT, &path, &missing, Some(agent)).await?;
    let action = match before {
        None => "created",
        Some(before) if before.status.generation == after.status.generation => "unchanged",
        Some(_) => "updated",
    };
    let mut applied = Applied {
        kind: "Agent",
        tenant: tenant.unwrap_or_default().to_string(),
        name: name.to_string(),
        action,
        published: None,
    };
    if publishes {
        let published = client.post(&format!("{path}/publish"), &json!({})).await;
        applied.published = Some(match published {
            Ok(published) => published,
            Err(error) => {
                // What was declared stays declared, and is told beside the failure.
                done.push(applied);
                return Err(error);
            }
        });
    }
    done.push(applied);
    Ok(())
}

fn sentence(applied: &Applied) -> String {
    let published = match &applied.published {
        None => "not published".to_owned(),
        Some(published) => {
            let word = if published.unchanged {
                "is published already"
            } else {
                "published"
            };
            let hash: String = published.hash.chars().take(12).collect();
            format!("version {} {word} ({hash})", published.version)
        }
    };
    format!(
        "agent/{} {} in {}, {published}",
        applied.name, applied.action, applied.tenant
    )
}
