//! `mesh bench`: measured load against a running mesh, from a process of its own. Nothing here is used by a service.

mod agent;
mod calls;
mod ceiling;
mod ceiling_lane;
mod depth;
mod embed;
mod fanout;
mod heartbeat;
mod intake;
mod invoke;
mod memory;
mod place;
mod plan;
mod processes;
mod progress;
mod report;
mod service;
mod stopwatch;
mod store;

use clap::{Args, Subcommand};

use crate::output::Output;
use place::PlaceArgs;

/// Arguments of `mesh bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure durable invocations: throughput, latency, CPU, memory, fsyncs, and the ceiling of this machine
    ///
    /// Declares and publishes a `noop` agent in the tenant `bench`, calls it at each concurrency, and stops its clock
    /// only when the feed and the lists have caught up. Beside it, in the same run, it writes the same rows straight
    /// into Postgres (the ceiling) and sends messages through the durable inbox (intake).
    #[command(after_help = EXAMPLES)]
    Invoke(InvokeArgs),
    /// Measure what waits, forks, long histories and sessions cost, each against its bar
    ///
    /// Starts a mesh of its own in the folder for temporary files, on free ports, and removes it at the end. Exit code 1
    /// if a bar is missed; the error names it.
    #[command(after_help = DEPTH_EXAMPLES)]
    Depth(DepthArgs),
    /// Measure heartbeats of nodes: what a fleet costs, and how many a second are held without loss
    ///
    /// Starts nats-server, Postgres and one heartbeat service of its own in the folder for temporary files, on free
    /// ports, and removes them at the end. First the fleet as it is (heartbeats every 20 s, health every 60 s), then
    /// as many heartbeats as are held: twice as many at each step, until some are lost. Held: every heartbeat was
    /// counted by the service, and the newest of every node is in its answers. Exit code 1 if the steady load is not
    /// held.
    #[command(after_help = HEARTBEAT_EXAMPLES)]
    Heartbeat(HeartbeatArgs),
    /// Measure searches of memories by vector: throughput, latency, recall, beside the same by plain SQL
    ///
    /// Starts nats-server, Postgres and one memory service of its own in the folder for temporary files, on free ports,
    /// and removes them at the end. Each level asks the service over NATS and Postgres directly in turns, for the ten
    /// nearest of all memories and of an agent that owns one in a hundred. Exit code 1 if a bar is missed; the error
    /// names it: recall 0.98 (0.99 with the filter), 0.8 of plain SQL's throughput, and for 384 dimensions and 8 clients
    /// at most 1.5 times its p99.
    #[command(after_help = MEMORY_EXAMPLES)]
    Memory(MemoryArgs),
    /// Measure the local embedder: loading, a batch of short texts, memory while loaded and afterwards
    ///
    /// In this process, on one thread; fetches the weights if they are not there. Exit code 1 if a bar is missed:
    /// loading within 1 s, 200 texts within 6 s, below 300 MB while loaded, below 100 MB when unloaded.
    #[command(after_help = EMBED_EXAMPLES)]
    Embed(embed::EmbedArgs),
    /// Measure how long the reconciler's plans take, on a made-up fleet
    ///
    /// Everything placed on an empty fleet, again without a change, and after one node in a hundred has died. Nothing is
    /// started or asked. Exit code 1 if a plan for at most 1,000 nodes and 10,000 agents takes over 200 ms, or one
    /// without a change over 20 ms.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(plan::PlanArgs),
    /// Measure how soon a push is with every client, beside a bare broadcast over WebSockets
    ///
    /// Starts nats-server, one gateway and a bare broadcast of its own in the folder for temporary files, on free ports,
    /// and removes them at the end. The same clients hear the same text of both, every push each. Then once more beside
    /// a client that stops reading. Exit code 1 if a bar is missed; the error names it: p99 at most 1.2 times the bare
    /// broadcast's, and not moved by who does not read.
    #[command(after_help = FANOUT_EXAMPLES)]
    Fanout(FanoutArgs),
    #[command(hide = true)]
    BareBroadcast(fanout::bare::BareArgs),
}

const FANOUT_EXAMPLES: &str = "Examples:
  mesh bench fanout
  mesh bench fanout --clients 5000 --rate 10,20 --json
  mesh bench fanout --clients 100 --rate 5 --seconds 3";

#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    /// Clients, each with a WebSocket of its own
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    clients: u32,
    /// Pushes a second, one level each
    #[arg(long, value_delimiter = ',', default_values_t = [10, 20], value_name = "LIST",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: Vec<u32>,
    /// Measured time of each side of a level; both are warmed up before
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

const PLAN_EXAMPLES: &str = "Examples:
  mesh bench plan
  mesh bench plan --nodes 10000 --agents 100000 --json";

const MEMORY_EXAMPLES: &str = "Examples:
  mesh bench memory
  mesh bench memory --rows 100000 --dims 384,1536 --json
  mesh bench memory --rows 10000 --dims 384 --clients 8 --seconds 3";

const EMBED_EXAMPLES: &str = "Examples:
  mesh bench embed
  mesh bench embed --texts 2000 --json";

const HEARTBEAT_EXAMPLES: &str = "Examples:
  mesh bench heartbeat --nodes 20000
  mesh bench heartbeat --nodes 1000 --seconds 10 --json
  mesh bench heartbeat --nodes 1000000 --seconds 0 --rate 50000      a million nodes, the ramp's one step";

const DEPTH_EXAMPLES: &str = "Examples:
  mesh bench depth
  mesh bench depth --waiting 10000 --json
  mesh bench depth --waiting 0 --session 0      forks and history only";

const EXAMPLES: &str = "Examples:
  mesh bench invoke
  mesh bench invoke --steps 3 --concurrency 1,64,256 --json
  mesh bench invoke --concurrency 64 --count 10000 --no-intake
  mesh bench invoke --nats nats://10.0.0.5:4222 --database postgres://mesh:secret@10.0.0.6/mesh";

/// Invocations in flight that the agent and the clients are made for.
const CONCURRENCY_MAX: u64 = 1_024;

#[derive(Debug, Args)]
pub(crate) struct InvokeArgs {
    /// Recorded steps of each invocation
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    steps: u32,
    /// Invocations in flight, one level each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256], value_name = "LIST",
          value_parser = clap::value_parser!(u64).range(1..=CONCURRENCY_MAX))]
    concurrency: Vec<u64>,
    /// Measured time of each level; it is warmed up before
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Invocations of each level at most, if they come before the time is over
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: Option<u64>,
    /// Leave out the ceiling: the same rows straight into Postgres
    #[arg(long)]
    no_ceiling: bool,
    /// Leave out the durable inbox
    #[arg(long)]
    no_intake: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DepthArgs {
    /// Invocations that wait at the same time, half for a timer, half for an approval; 0: leave it out
    #[arg(long, default_value_t = 100_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    waiting: u64,
    /// Steps of the invocations that are forked and whose history is weighed; 0: leave them out
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=1_000))]
    steps: u32,
    /// Messages into one session; 0: leave it out
    #[arg(long, default_value_t = 1_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    session: u64,
}

#[derive(Debug, Args)]
pub(crate) struct HeartbeatArgs {
    /// Simulated nodes
    #[arg(long, default_value_t = 20_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=2_000_000))]
    nodes: u64,
    /// Heartbeats a second of the ramp's only step [default: a ramp that doubles them]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Measured time of the steady load; 0: leave it out
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=3_600))]
    seconds: u64,
    /// Measured time of each step of the ramp
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    step_seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Memories in the table
    #[arg(long, default_value_t = 100_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    rows: u64,
    /// Numbers in a vector, one table each: 384, 768, 1024, 1536, 3072
    #[arg(long, value_delimiter = ',', default_values_t = [384, 1_536], value_name = "LIST", value_parser = dimensions)]
    dims: Vec<u32>,
    /// Clients, one level each; each has one search at a time
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8], value_name = "LIST",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: Vec<u32>,
    /// Measured time of each side of a level; both are warmed up before
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

fn dimensions(text: &str) -> Result<u32, String> {
    let known = [384, 768, 1_024, 1_536, 3_072];
    let dims = text.parse().ok().filter(|dims| known.contains(dims));
    dims.ok_or_else(|| format!("vectors have one of {known:?} numbers"))
}

/// Runs the measurement that was asked for and prints it.
pub(crate) async fn run(args: BenchArgs, output: Output) -> anyhow::Result<()> {
    match args.what {
        What::Invoke(args) => invoke::run(args, output).await,
        What::Depth(args) => depth::run(args, output).await,
        What::Heartbeat(args) => heartbeat::run(args, output).await,
        What::Memory(args) => memory::run(args, output).await,
        What::Embed(args) => embed::run(args, output).await,
        What::Plan(args) => plan::run(&args, output),
        What::Fanout(args) => fanout::run(args, output).await,
        What::BareBroadcast(args) => fanout::bare::run(&args).await,
    }
}
