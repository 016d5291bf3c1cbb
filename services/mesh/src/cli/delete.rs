//! `mesh delete`: takes declared objects away. Open invocations keep their version.

use clap::{Args, ValueEnum};
use mesh_api::registry::AgentDeleted;
use mesh_types::{AgentName, Problem};
use reqwest::Method;
use serde_json::{Value, json};

use super::Session;
use super::declared::{Document, FileArgs, read_all, tell};
use crate::client::Client;
use crate::failure::{Told, Usage, problem_text};

/// Delete declared objects: no new invocation starts, open ones keep their version
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, override_usage = "mesh delete agent NAME...\n       mesh delete -f FILE...")]
pub(crate) struct DeleteArgs {
    /// Kind of the objects
    #[arg(value_enum, requires = "names")]
    kind: Option<Kind>,
    /// Their names
    names: Vec<AgentName>,
    /// File, folder or `-`: delete what it declares
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "kind", num_args = 1..)]
    files: Vec<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(alias = "agents")]
    Agent,
}

const EXAMPLES: &str = "Examples:
  mesh delete agent sofia
  mesh delete agent a b c --tenant daarion
  mesh delete -f agents/";

pub(crate) async fn run(args: DeleteArgs, session: &Session) -> anyhow::Result<()> {
    let client = session.client()?;
    let output = session.output;
    let (mut done, mut failed): (Vec<Value>, usize) = (Vec::new(), 0);
    if args.kind.is_none() && args.files.is_empty() {
        return Err(Usage("name what is to be deleted: mesh delete agent NAME, or mesh delete -f FILE".into()).into());
    }
    for name in args.names {
        match delete(&client, &name).await {
            Ok(deleted) => done.push(deleted),
            Err(error) => match error.downcast::<Problem>() {
                Ok(problem) => {
                    failed += 1;
                    output.note(&format!("agent/{name}: {}", problem_text(&problem)));
                }
                Err(error) => return Err(error),
            },
        }
    }
    if !args.files.is_empty() {
        for Document { place, agent } in read_all(&FileArgs { files: args.files })? {
            let deleted = match agent {
                Ok(agent) => match Document::tenant(&agent, &client) {
                    Ok(tenant) => delete(&client.for_tenant(tenant), &agent.metadata.name).await,
                    Err(problem) => Err(problem.into()),
                },
                Err(problem) => Err(problem.into()),
            };
            match deleted {
                Ok(deleted) => done.push(deleted),
                Err(error) if error.is::<Problem>() => {
                    failed += 1;
                    tell(output, &place, &error);
                }
                Err(error) => return Err(error),
            }
        }
    }
    output.show(&json!({ "items": done, "failed": failed }), || {
        done.iter().try_for_each(|deleted| {
            let name = deleted["agent"].as_str().unwrap_or_default();
            output.line(&format!("agent/{name} deleted"))
        })
    })?;
    if failed == 0 { Ok(()) } else { Err(Told.into()) }
}

async fn delete(client: &Client, name: &AgentName) -> anyhow::Result<Value> {
    let path = format!("/api/v1/agents/{name}");
    let deleted: AgentDeleted = client.send::<Value, _>(Method::DELETE, &path, &[], None).await?;
    Ok(serde_json::to_value(deleted)?)
}
