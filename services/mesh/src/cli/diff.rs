//! `mesh diff`: what `mesh apply` would change, field by field.

use std::collections::BTreeMap;

use clap::Args;
use mesh_api::registry::AgentView;
use mesh_types::Problem;
use mesh_types::agent::{Agent, AgentSpec, Metadata};
use serde::Serialize;
use serde_json::{Value, json};

use super::Session;
use super::declared::{Document, FileArgs, read_all, tell};
use crate::client::Client;
use crate::failure::Told;
use crate::output::{Mood, Output};

/// Show what `mesh apply` would change, field by field
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    files: FileArgs,
}

const EXAMPLES: &str = "Examples:
  mesh diff -f sofia.yaml
  mesh diff -f agents/ && echo nothing to do

Exit codes: 0 nothing differs, 1 something differs or failed, 2 wrong use of the command line.";

/// One field that differs; `None` where it is not there.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Change {
    field: String,
    live: Option<Value>,
    declared: Option<Value>,
}

#[derive(Debug, Serialize)]
struct Difference {
    agent: String,
    tenant: String,
    is_new: bool,
    /// Whether the live object was changed after its last publish.
    has_draft: bool,
    changes: Vec<Change>,
}

pub(crate) async fn run(args: DiffArgs, session: &Session) -> anyhow::Result<()> {
    let documents = read_all(&args.files)?;
    let client = session.client()?;
    let (output, mut differences, mut failed) = (session.output, Vec::new(), 0);
    for Document { place, agent } in documents {
        let found = match agent {
            Ok(agent) => difference(&client, &agent).await,
            Err(problem) => Err(problem.into()),
        };
        match found {
            Ok(found) => differences.extend(found),
            Err(error) if error.is::<Problem>() => {
                failed += 1;
                tell(output, &place, &error);
            }
            Err(error) => return Err(error),
        }
    }
    output.show(&json!({ "items": differences, "failed": failed }), || {
        differences.iter().try_for_each(|difference| print(difference, output))
    })?;
    if differences.is_empty() && failed == 0 {
        Ok(())
    } else {
        Err(Told.into())
    }
}

/// `None` where applying would change nothing.
async fn difference(client: &Client, agent: &Agent) -> anyhow::Result<Option<Difference>> {
    let tenant = Document::tenant(agent, client)?;
    let client = client.for_tenant(tenant.clone());
    let name = &agent.metadata.name;
    let live: Option<AgentView> = client.find(&format!("/api/v1/agents/{name}")).await?;
    let declared = fields(&agent.metadata, &agent.spec)?;
    let has_draft = live
        .as_ref()
        .is_some_and(|live| live.status.draft || live.status.published.is_none());
    let is_new = live.is_none();
    let live = live
        .map(|live| fields(&live.metadata, &live.spec))
        .transpose()?
        .unwrap_or_default();
    let changes = changes(&live, &declared);
    let differs = is_new || has_draft || !changes.is_empty();
    let tenant = tenant.unwrap_or_default().to_string();
    Ok(differs.then(|| Difference {
        agent: name.to_string(),
        tenant,
        is_new,
        has_draft,
        changes,
    }))
}

/// What counts as the object: its labels and its specification, defaults filled in.
fn fields(metadata: &Metadata, spec: &AgentSpec) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    flatten("metadata.labels", &serde_json::to_value(&metadata.labels)?, &mut found);
    flatten("spec", &serde_json::to_value(spec)?, &mut found);
    Ok(found)
}

/// Lists stay whole: their order means something.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, into)),
        value => drop(into.insert(path.to_owned(), value.clone())),
    }
}

fn changes(live: &BTreeMap<String, Value>, declared: &BTreeMap<String, Value>) -> Vec<Change> {
    let mut keys: Vec<_> = live.keys().chain(declared.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let change = |key: &&String| {
        let (live, declared) = (live.get(*key), declared.get(*key));
        (live != declared).then(|| Change {
            field: (*key).clone(),
            live: live.cloned(),
            declared: declared.cloned(),
        })
    };
    keys.iter().filter_map(change).collect()
}

fn print(difference: &Difference, output: Output) -> anyhow::Result<()> {
    let what = match (difference.is_new, difference.changes.is_empty()) {
        (true, _) => "would be created",
        (false, false) => "would be updated",
        (false, true) => "would be published as it is",
    };
    let title = format!("agent/{} in {} {what}", difference.agent, difference.tenant);
    output.line(&output.bold(&title))?;
    for change in &difference.changes {
        let field = &change.field;
        if let Some(live) = &change.live {
            output.line(&output.mood(Mood::Bad, &format!("- {field}: {live}")))?;
        }
        if let Some(declared) = &change.declared {
            output.line(&output.mood(Mood::Good, &format!("+ {field}: {declared}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_a_change() {
        let agent = |spec: Value| Agent::from_json(json!({"metadata": {"name": "a"}, "spec": spec})).unwrap();
        let of = |agent: &Agent| fields(&agent.metadata, &agent.spec).unwrap();
        let live = of(&agent(json!({"capabilities": {"x": true}})));
        let declared = of(&agent(json!({"model": {"temperature": 0.1}})));
        let seen: Vec<_> = changes(&live, &declared)
            .into_iter()
            .map(|change| change.field)
            .collect();
        assert_eq!(seen, ["spec.capabilities.x", "spec.model.temperature"]);
        assert!(changes(&live, &live).is_empty());
    }
}
