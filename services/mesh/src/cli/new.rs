//! `mesh new agent`: asks what an agent needs and writes its YAML. Nothing is sent to a mesh.

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use mesh_types::AgentName;
use mesh_types::agent::Agent;
use serde_json::{Map, Value, json};

use super::Session;
use crate::failure::{Usage, advised};
use crate::output::yaml;

/// Write the YAML of a new object, asking for what is not given
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NewArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// An agent
    #[command(after_help = EXAMPLES)]
    Agent(AgentArgs),
}

#[derive(Debug, Args)]
struct AgentArgs {
    /// Its name; asked for on a terminal
    name: Option<AgentName>,
    /// Model [default: gpt-4]
    #[arg(long)]
    model: Option<String>,
    /// Model to try when the one before fails; may be repeated [default: mock]
    #[arg(long = "fallback", value_name = "MODEL")]
    fallbacks: Vec<String>,
    /// What it is and how it should answer
    #[arg(long, value_name = "TEXT")]
    instructions: Option<String>,
    /// File to write, `-` for stdout [default: NAME.yaml]
    #[arg(short, long = "filename", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "Examples:
  mesh new agent                   asks
  mesh new agent helper --model gpt-4 --instructions \"You help.\" -f -
  mesh new agent helper && mesh apply -f helper.yaml && mesh invoke helper hello";

const MODEL: &str = "gpt-4";
const FALLBACK: &str = "mock";

pub(crate) fn run(args: NewArgs, session: &Session) -> anyhow::Result<()> {
    let What::Agent(args) = args.what;
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let (declared, name) = declared(&args, asks, session)?;
    // What this writes must be what `mesh apply` takes.
    Agent::from_json(declared.clone())?;
    let text = yaml(&declared)?;
    let path = args.file.unwrap_or_else(|| PathBuf::from(format!("{name}.yaml")));
    if path.as_os_str() == "-" {
        return session.output.text(&text);
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = match options.open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let error = anyhow::anyhow!("{} is there already", path.display());
            return Err(advised(error, "--force replaces it, -f names another file"));
        }
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    session
        .output
        .note(&format!("wrote {0}; next: mesh apply -f {0}", path.display()));
    Ok(())
}

fn declared(args: &AgentArgs, asks: bool, session: &Session) -> anyhow::Result<(Value, AgentName)> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None if asks => ask("Name of the agent:", None)?
            .parse()
            .map_err(|error: mesh_types::NameError| Usage(error.to_string()))?,
        None => return Err(Usage("name the agent: mesh new agent NAME".into()).into()),
    };
    // A name given alone is still a conversation; with any other flag it is a script.
    let asks = asks && args.model.is_none() && args.instructions.is_none() && args.fallbacks.is_empty();
    let (model, instructions) = if asks {
        let model = ask("Model:", Some(MODEL))?;
        (model, ask("What is it, and how should it answer?", Some(""))?)
    } else {
        (
            args.model.clone().unwrap_or_else(|| MODEL.into()),
            args.instructions.clone().unwrap_or_default(),
        )
    };
    let fallbacks = if args.fallbacks.is_empty() {
        vec![FALLBACK.to_owned()]
    } else {
        args.fallbacks.clone()
    };
    let instructions = if instructions.trim().is_empty() {
        format!("You are {name}, a helpful agent.")
    } else {
        instructions
    };
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    if let Some(tenant) = session.tenant() {
        metadata.insert("tenant".into(), json!(tenant));
    }
    let spec = json!({
        "runtime": "llm",
        "model": { "name": model, "fallbacks": fallbacks },
        "instructions": instructions,
    });
    Ok((
        json!({ "apiVersion": "mesh/v1", "kind": "Agent", "metadata": metadata, "spec": spec }),
        name,
    ))
}

fn ask(question: &str, default: Option<&str>) -> anyhow::Result<String> {
    let prompt = inquire::Text::new(question);
    let prompt = match default {
        Some(default) => prompt.with_default(default),
        None => prompt,
    };
    Ok(prompt.prompt()?)
}
