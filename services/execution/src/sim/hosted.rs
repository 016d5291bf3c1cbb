//! A hosted worker, in the shape of `crate::worker`: runs one grant as a task of its process.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use mesh_api::journal::{Ended, Outcome, Record, Usage};
use mesh_types::Problem;
use mesh_types::agent::AgentSpec;
use mesh_worker::{Finished, Grant, Journal, Then};

use super::hands::{Hands, Place};
use super::process::Process;
use super::world::Sim;
use crate::core::Meta;
use crate::lane::command::{Command, Start};
use crate::store::source::{Source, step_of};

pub(super) fn start(sim: &Arc<Sim>, process: &Arc<Process>, start: Start) {
    let (sim, process) = (Arc::clone(sim), Arc::clone(process));
    let group = Arc::clone(&process.group);
    group.spawn(async move { run(sim, process, start).await });
}

async fn run(sim: Arc<Sim>, process: Arc<Process>, start: Start) {
    let mut guard = Guard {
        process: Arc::clone(&process),
        meta: Arc::clone(&start.meta),
        epoch: start.epoch,
        is_ended: false,
    };
    let hands = Hands {
        sim: Arc::clone(&sim),
        place: Place::Hosted(Arc::clone(&process)),
        meta: Arc::clone(&start.meta),
        epoch: start.epoch,
        seq: AtomicU32::new(start.seq),
    };
    let cancel = start.cancel.clone();
    let prepared = tokio::select! {
        biased;
        () = cancel.cancelled() => return,
        prepared = prepare(&sim, &process, &start) => prepared,
    };
    let grant = grant(&sim, &start.meta, start.spec.clone(), start.epoch, prepared);
    match mesh_worker::run_invocation(grant, &hands, cancel).await {
        Finished::Ended(_) => guard.is_ended = true,
        Finished::Waiting | Finished::Stopped | Finished::Stale => {}
        Finished::Refused(problem) => guard.is_ended = give_up(&hands, *problem).await,
    }
}

pub(super) async fn give_up(hands: &Hands, problem: Problem) -> bool {
    let ended = Ended {
        outcome: Outcome::Failed,
        reason: Some("record_refused".into()),
        output: None,
        error: Some(problem),
        usage: Usage::default(),
        provider: None,
    };
    hands.append(Vec::new(), Then::End(Box::new(ended))).await.is_ok()
}

async fn prepare(sim: &Sim, process: &Process, start: &Start) -> (Vec<Record>, Source) {
    if !start.journal.is_empty() && start.meta.fork().is_none() {
        return (start.journal.clone(), Source::default());
    }
    loop {
        if sim.reach_database(process).await.is_ok() && !sim.chance(sim.odds().cut) {
            let mut journal = sim.database().journal(start.meta.id, 0);
            journal.retain(|record| record.seq <= start.seq);
            return (journal, source(sim, &start.meta));
        }
        sim.pause(200, 1_000).await;
    }
}

/// As `store::source` reads it; forks here are of invocations that are no forks.
pub(super) fn source(sim: &Sim, meta: &Meta) -> Source {
    let Some(fork) = meta.fork() else {
        return Source::default();
    };
    let all = sim.database().journal(fork.of, 0);
    let seq_max = meta.input.source_seq.unwrap_or(u32::MAX);
    let steps = all
        .into_iter()
        .filter(|record| record.seq <= seq_max && step_of(&record.fact).is_some());
    let (inherited, recording) =
        steps.partition(|record| step_of(&record.fact).is_some_and(|step| step < fork.from_step));
    Source { inherited, recording }
}

pub(super) fn grant(
    sim: &Sim,
    meta: &Arc<Meta>,
    spec: Option<Arc<AgentSpec>>,
    epoch: u32,
    (journal, source): (Vec<Record>, Source),
) -> Grant {
    let spec = spec.unwrap_or_else(|| {
        sim.registry
            .published(&meta.agent)
            .map(|pinned| pinned.spec)
            .unwrap_or_default()
    });
    crate::worker::grant(meta, spec, epoch, journal, source)
}

/// Tells the lane that the worker is gone.
struct Guard {
    process: Arc<Process>,
    meta: Arc<Meta>,
    epoch: u32,
    is_ended: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_ended {
            let gone = Command::HolderGone {
                id: self.meta.id,
                epoch: self.epoch,
            };
            let _ = self.process.lane(self.meta.shard).send(gone);
        }
    }
}
