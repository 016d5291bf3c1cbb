//! `mesh bench plan`: how long the reconciler's plans take, on a made-up fleet in this process; no server is asked.

use anyhow::bail;
use clap::Args;
use mesh_types::SystemClock;
use reconciler::PlanTimes;

use crate::output::{Output, Table};

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Made-up nodes
    #[arg(long, default_value_t = 1_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: u32,
    /// Made-up agents of two replicas each
    #[arg(long, default_value_t = 10_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    agents: u32,
}

/// Of 1,000 nodes and 10,000 agents, in milliseconds.
const PLAN_MS_MAX: f64 = 200.0;
const UNCHANGED_MS_MAX: f64 = 20.0;
const BAR_NODES: u32 = 1_000;
const BAR_AGENTS: u32 = 10_000;

pub(super) fn run(args: &PlanArgs, output: Output) -> anyhow::Result<()> {
    let times = reconciler::plan_times(args.nodes, args.agents, &SystemClock::default());
    output.show(&times, || {
        let mut table = Table::new(output, &["PLAN", "ACTIONS", "MS"]);
        let rows = [
            ("everything, on an empty fleet", times.first_actions, times.first_ms),
            ("nothing has changed", times.unchanged_actions, times.unchanged_ms),
            (
                "one node in a hundred has died",
                times.failover_actions,
                times.failover_ms,
            ),
        ];
        for (what, actions, ms) in rows {
            table.row([what.to_owned(), actions.to_string(), format!("{ms:.1}")]);
        }
        table.print()
    })?;
    // A build without optimisation says nothing of the real one.
    if args.nodes > BAR_NODES || args.agents > BAR_AGENTS || cfg!(debug_assertions) {
        return Ok(());
    }
    missed(&times).map_or(Ok(()), |missed| bail!(missed))
}

fn missed(times: &PlanTimes) -> Option<String> {
    let slowest = times.first_ms.max(times.failover_ms);
    if slowest > PLAN_MS_MAX {
        return Some(format!("a plan took {slowest:.0} ms, more than {PLAN_MS_MAX:.0}"));
    }
    let unchanged = times.unchanged_ms;
    (unchanged > UNCHANGED_MS_MAX)
        .then(|| format!("a plan without a change took {unchanged:.0} ms, more than {UNCHANGED_MS_MAX:.0}"))
}
