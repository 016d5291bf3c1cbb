//! `mesh node`: this machine runs agents that declare a `placement`, for a mesh that it reaches over NATS only.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mesh_runtime::config::Environment;
use mesh_runtime::lifecycle::{Outcome, run_until_stopped, signals};
use mesh_runtime::{Context, Secret, Validate};
use mesh_types::fleet::NodeMode;
use mesh_types::{NodeId, SystemClock};
use node::{Door, JoinError};
use tokio_util::sync::CancellationToken;

use super::nodes::{self, NodeAction};
use super::{Session, misconfigured};
use crate::failure::{Usage, advised};
use crate::serve::{arm_for_tests, serve_ops, start_telemetry};
use crate::up::{api_key, without_user};

/// Run agents that declare a `placement` on this machine
///
/// The node joins its mesh with an address and one token, and needs outbound connections only: to NATS, or to the
/// gateway where nothing but HTTPS leaves the building. It keeps who it is below MESH_HOME and needs no token when it
/// comes back. The first SIGTERM hands its work over to other nodes, the second one ends it at once; nothing that was
/// recorded is lost either way.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    action: Option<NodeAction>,
    /// Token to join with, as `mesh tokens create` prints it [default: MESH_NODE_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Name for people [default: AGENT_NODE_NAME, else this machine's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Id of the node [default: AGENT_NODE_ID, else the mesh gives one at the first start]
    #[arg(long, value_name = "ID")]
    id: Option<NodeId>,
    /// Whom it works for, at its first start only [default: AGENT_NODE_MODE, else private]
    #[arg(long, value_name = "MODE", value_parser = mode_parser())]
    mode: Option<NodeMode>,
    /// Label that agents pick nodes by, such as region=eu; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Invocations that run at the same time [default: 16]
    #[arg(long, value_name = "NUMBER")]
    slots: Option<u32>,
}

const EXAMPLES: &str = "Examples:
  mesh node                                    of the mesh that runs here
  mesh node --url https://mesh.example.org --token mjt_…
  mesh node --url nats://mesh.example.org:4222 --token mjt_… --label region=eu --slots 4
  MESH_URL=https://mesh.example.org MESH_NODE_TOKEN=mjt_… mesh node --name kitchen
  mesh node drain kitchen                      move everything off another one

Variables: MESH_URL, MESH_NODE_TOKEN, AGENT_NODE_ID, AGENT_NODE_NAME, AGENT_NODE_MODE,
AGENT_NODE_STATE_PATH, AGENT_NODE_HEARTBEAT_SECONDS, AGENT_NODE_HEALTH_SECONDS,
AGENT_RUNTIMES_INFERENCE_PROVIDER_OVERRIDE; `mesh config node` shows all keys.
Exit codes: 0 stopped in order, 1 failed, 2 wrong use of the command line.";

/// Longer than a drain takes.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn run(mut args: NodeArgs, session: &Session) -> anyhow::Result<()> {
    if let Some(action) = args.action.take() {
        return nodes::act(action, session).await;
    }
    let signals = signals().context("cannot listen for signals")?;
    let door = door(&args, session)?;
    let config = config(args, session)?;
    let telemetry = start_telemetry("node", session)?;
    arm_for_tests(session)?;
    let stop = CancellationToken::new();
    let body = live(config, door, telemetry.metrics(), stop.clone(), &session.environment);
    let outcome = run_until_stopped(stop, STOP_DEADLINE, signals, body).await;
    drop(telemetry);
    match outcome {
        Outcome::Ended(result) => result,
        Outcome::Aborted(_) => {
            anyhow::bail!("stopped before everything was handed over; it goes on elsewhere when its lease is over")
        }
    }
}

/// Joins, and works until it is stopped.
async fn live(
    config: node::Config,
    door: Door,
    metrics: mesh_runtime::Metrics,
    stop: CancellationToken,
    environment: &Environment,
) -> anyhow::Result<()> {
    let clock = SystemClock::default();
    let Some(joined) = stop.run_until_cancelled(node::join(&config, &door, &clock)).await else {
        return Ok(());
    };
    let joined = joined.map_err(told)?;
    let context = Context::new("node", joined.bus.clone(), metrics);
    serve_ops(&context, environment).await?;
    let shutdown = context.shutdown.clone();
    let stopping = async {
        stop.cancelled().await;
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = node::run(config, joined, context) => Ok(ended?),
        () = stopping => Ok(()),
    }
}

fn told(error: JoinError) -> anyhow::Error {
    let next = error.next();
    advised(error, next)
}

/// The configuration file and environment, then the command line.
fn config(args: NodeArgs, session: &Session) -> anyhow::Result<node::Config> {
    let mut config: node::Config = session.loader()?.load("node").map_err(misconfigured)?;
    config.id = args.id.or(config.id);
    config.name = args.name.unwrap_or(config.name);
    config.mode = args.mode.or(config.mode);
    config.labels.extend(args.labels);
    config.slots = args.slots.unwrap_or(config.slots);
    if config.state_path.as_os_str().is_empty() {
        config.state_path = session.home().join("nodes").join(folder(&config));
    }
    config.validate().map_err(Usage)?;
    Ok(config)
}

/// Several nodes of one machine have a folder each.
fn folder(config: &node::Config) -> PathBuf {
    let name = match &config.id {
        Some(id) => id.to_string(),
        None => config.shown_name(),
    };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let plain: String = name
        .chars()
        .map(|letter| if is_plain(letter) { letter } else { '_' })
        .collect();
    PathBuf::from(plain)
}

/// Where the mesh is: as it was named, else the one that runs here.
fn door(args: &NodeArgs, session: &Session) -> anyhow::Result<Door> {
    let environment = &session.environment;
    let token = args.token.clone().filter(|token| !token.is_empty());
    let token = token.map(Secret::new).or_else(|| environment.node_token.clone());
    let mut token = token.or_else(|| environment.api_key.clone());
    let named = session.named_url().map(str::to_owned);
    let url = match named
        .or_else(|| environment.url.clone())
        .or_else(|| environment.nats_url.clone())
    {
        Some(url) => url,
        None => match session.running()?.and_then(|running| running.state) {
            Some(state) => match api_key(session.home()) {
                // Its NATS is for who is known there: a node is itself, not one of the services.
                Some(key) => {
                    token.get_or_insert(key);
                    without_user(&state.nats)
                }
                None => state.nats,
            },
            None => {
                let text = "no mesh runs here: name one with --url https://HOST, --url nats://HOST:PORT, or MESH_URL";
                return Err(Usage(text.into()).into());
            }
        },
    };
    Ok(Door {
        url,
        token,
        tenant: session.tenant().cloned(),
    })
}

fn mode_parser() -> impl TypedValueParser<Value = NodeMode> {
    PossibleValuesParser::new(["private", "shared", "sleep"]).map(|text| match text.as_str() {
        "shared" => NodeMode::Shared,
        "sleep" => NodeMode::Sleep,
        _ => NodeMode::Private,
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write it like region=eu".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_a_key_and_a_value() {
        assert_eq!(label("region=eu"), Ok(("region".into(), "eu".into())));
        assert_eq!(label("empty="), Ok(("empty".into(), String::new())));
        assert!(label("region").is_err() && label("=eu").is_err());
    }

    #[test]
    fn a_folder_is_one_name_whatever_the_node_is_called() {
        let of = |name: &str| {
            let config = node::Config {
                name: name.into(),
                ..node::Config::default()
            };
            folder(&config)
        };
        assert_eq!(of("kitchen-1"), PathBuf::from("kitchen-1"));
        assert_eq!(of("../my pi"), PathBuf::from("___my_pi"));
        let pinned = node::Config {
            id: Some("kitchen".parse().unwrap()),
            ..node::Config::default()
        };
        assert_eq!(folder(&pinned), PathBuf::from("kitchen"));
    }
}
