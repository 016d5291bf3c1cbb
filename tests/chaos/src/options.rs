//! What a run is told: the command line of `cargo xtask chaos`, and what tests give.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Kills, freezes and cuts real processes under load, and judges what is left.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos", max_term_width = 100, after_help = EXAMPLES)]
pub struct Options {
    /// First seed; it decides load and faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seeds in a row, each a run on fresh servers [default: 1; of a planted bug at most 6, until it is found]
    #[arg(long)]
    pub seeds: Option<u64>,
    /// Seconds that faults and load of one run last.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// Invocations of one run.
    #[arg(long, default_value_t = 300)]
    pub invocations: usize,
    /// Seconds in which all that was accepted must end once the faults are over.
    #[arg(long, default_value_t = 60)]
    pub settle: u64,
    /// What the load consists of, besides noop and llm agents [default: all]
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
    pub with: Option<Vec<With>>,
    /// Faults to inject [default: all]
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
    pub faults: Option<Vec<Fault>>,
    /// Shows this bug, and expects violations; `all` tries each
    #[arg(long, value_name = "NAME")]
    pub planted: Option<String>,
    /// The `mesh` program [default: beside this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Checkout whose failpoints are armed [default: that of this program]
    #[arg(long, value_name = "FOLDER", hide = true)]
    pub sources: Option<PathBuf>,
    /// Prints one JSON document
    #[arg(long)]
    pub json: bool,
    /// Keeps logs of the processes in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

/// For a planted bug.
const PLANTED_SEEDS: u64 = 6;

const EXAMPLES: &str = "Examples:
  cargo xtask chaos
  cargo xtask chaos --seed 7 --seeds 20 --seconds 60 --invocations 500
  cargo xtask chaos --planted unlocked_fence

Exit codes: 0 nothing wrong (of a planted bug: it was found), 1 violations (it was not), 2 wrong use.";

/// Parts of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum With {
    Sessions,
    Tools,
    Children,
    Approvals,
    /// agents that create invocations of their own
    Tasks,
    /// agents that remember
    Memories,
    /// agents on two nodes
    Nodes,
}

impl With {
    pub const ALL: [Self; 7] = [
        Self::Sessions,
        Self::Tools,
        Self::Children,
        Self::Approvals,
        Self::Tasks,
        Self::Memories,
        Self::Nodes,
    ];
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// kill -9 of an execution process
    KillExecution,
    /// SIGSTOP of an execution process, often for longer than its shards wait
    FreezeExecution,
    /// kill -9 of a node
    KillNode,
    /// SIGSTOP of a node, now and then for longer than its leases
    FreezeNode,
    /// a start with failpoints
    Failpoint,
    /// kill -9 of the process of all other services
    KillEdge,
    FreezeEdge,
    KillNats,
    FreezeNats,
    KillPostgres,
    FreezePostgres,
    /// a connection to Postgres is cut after COMMIT
    CutAfterCommit,
    /// a connection to Postgres is cut before the batch arrives
    CutBeforeRequest,
    /// kill -9 of everything at once
    KillAll,
}

impl Fault {
    pub const ALL: [Self; 14] = [
        Self::KillExecution,
        Self::FreezeExecution,
        Self::KillNode,
        Self::FreezeNode,
        Self::Failpoint,
        Self::KillEdge,
        Self::FreezeEdge,
        Self::KillNats,
        Self::FreezeNats,
        Self::KillPostgres,
        Self::FreezePostgres,
        Self::CutAfterCommit,
        Self::CutBeforeRequest,
        Self::KillAll,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KillExecution => "kill execution",
            Self::FreezeExecution => "freeze execution",
            Self::KillNode => "kill node",
            Self::FreezeNode => "freeze node",
            Self::Failpoint => "failpoint",
            Self::KillEdge => "kill edge",
            Self::FreezeEdge => "freeze edge",
            Self::KillNats => "kill nats",
            Self::FreezeNats => "freeze nats",
            Self::KillPostgres => "kill postgres",
            Self::FreezePostgres => "freeze postgres",
            Self::CutAfterCommit => "cut after commit",
            Self::CutBeforeRequest => "cut before request",
            Self::KillAll => "kill all",
        }
    }
}

impl Options {
    pub(crate) fn load(&self) -> Vec<With> {
        self.with.clone().unwrap_or_else(|| With::ALL.to_vec())
    }

    /// A bug shows only where faults meet it: what one seed does not bring about another one may.
    pub(crate) fn seeds(&self) -> u64 {
        let default = if self.planted.is_some() { PLANTED_SEEDS } else { 1 };
        self.seeds.unwrap_or(default)
    }

    /// Without those of nodes where there are none.
    pub(crate) fn allowed(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone().unwrap_or_else(|| Fault::ALL.to_vec());
        if !self.has_nodes() {
            faults.retain(|fault| !matches!(fault, Fault::KillNode | Fault::FreezeNode));
        }
        faults
    }

    pub(crate) fn has_nodes(&self) -> bool {
        self.load().contains(&With::Nodes)
    }
}
