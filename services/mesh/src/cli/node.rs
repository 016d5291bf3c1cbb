//! `mesh node`: this machine runs agents that declare a `placement`, for a mesh that it reaches over NATS only.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::lifecycle::{Outcome, run_until_stopped, signals};
use mesh_runtime::{Context, Validate};
use mesh_types::NodeId;

use super::{Session, misconfigured};
use crate::failure::Usage;
use crate::serve::{arm_for_tests, start_telemetry};

/// Run agents that declare a `placement` on this machine
///
/// The node needs NATS only. It keeps its name and unsent results below MESH_HOME. The first SIGTERM hands its work
/// over to other nodes, the second one ends it at once; nothing that was recorded is lost either way.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NodeArgs {
    /// Name of the node [default: made up at its first start]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeId>,
    /// Invocations that run at the same time [default: 16]
    #[arg(long, value_name = "NUMBER")]
    slots: Option<u32>,
}

const EXAMPLES: &str = "Examples:
  mesh node --url nats://mesh.example.org:4222
  mesh node --name kitchen --slots 4           of the mesh at MESH_NATS_URL, or of the one that runs here

Exit codes: 0 stopped in order, 1 failed, 2 wrong use of the command line.";

/// Longer than a drain takes.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn run(args: NodeArgs, session: &Session) -> anyhow::Result<()> {
    let signals = signals().context("cannot listen for signals")?;
    let config = config(args, session)?;
    let url = nats_url(session)?;
    let telemetry = start_telemetry("node", session)?;
    arm_for_tests(session)?;
    let bus = Bus::connect(BusOptions {
        url,
        name: "mesh-node".into(),
        monitor_url: None,
        user: None,
    })
    .await?;
    let context = Context::new("node", bus, telemetry.metrics());
    let shutdown = context.shutdown.clone();
    let outcome = run_until_stopped(shutdown, STOP_DEADLINE, signals, node::run(config, context)).await;
    drop(telemetry);
    match outcome {
        Outcome::Ended(result) => Ok(result?),
        Outcome::Aborted(_) => {
            anyhow::bail!("stopped before everything was handed over; it goes on elsewhere when its lease is over")
        }
    }
}

/// The configuration file and environment, then the command line.
fn config(args: NodeArgs, session: &Session) -> anyhow::Result<node::Config> {
    let mut config: node::Config = session.loader()?.load("node").map_err(misconfigured)?;
    config.name = args.name.or(config.name);
    config.slots = args.slots.unwrap_or(config.slots);
    if config.state_dir.as_os_str().is_empty() {
        // Several nodes of one machine have a folder each.
        let folder = config.name.as_ref().map_or("node", |name| name.as_str());
        config.state_dir = session.home().join("nodes").join(folder);
    }
    config.validate().map_err(Usage)?;
    Ok(config)
}

fn nats_url(session: &Session) -> anyhow::Result<String> {
    if let Some(url) = session.named_url() {
        if url.starts_with("http") {
            let text = format!("--url {url}: a node speaks NATS; name an address such as nats://mesh.example.org:4222");
            return Err(Usage(text).into());
        }
        return Ok(url.to_owned());
    }
    if let Some(url) = &session.environment.nats_url {
        return Ok(url.clone());
    }
    match session.running()?.and_then(|running| running.state) {
        Some(state) => Ok(state.nats),
        None => {
            let text = "no mesh runs here: name one with --url nats://HOST:PORT or MESH_NATS_URL";
            Err(Usage(text.into()).into())
        }
    }
}
