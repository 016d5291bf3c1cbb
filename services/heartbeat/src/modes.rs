//! Tells `registry` of modes that nodes report and it does not know: once per change, again until it has answered.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use mesh_api::Caller;
use mesh_api::fleet::{NodeEntry, NodeReportedMode, NodeReportedModeRequest};
use mesh_runtime::{Doorbell, PassReport};
use mesh_store::every_tenant_tx;
use mesh_types::fleet::{Heartbeat, NodeMode};
use mesh_types::{NodeId, Problem};

use crate::directory::registered;
use crate::state::State;
use crate::store::beats;

const IN_FLIGHT: usize = 16;
/// Of one pass; the rest waits for the next.
const BATCH: usize = 500;

/// What is to be told. Only of nodes that `registry` knows, so there are no more than it has.
#[derive(Debug, Default)]
pub(crate) struct Modes {
    waiting: Mutex<HashMap<NodeId, NodeReportedModeRequest>>,
    pub(crate) bell: Doorbell,
}

impl Modes {
    pub(crate) fn report(&self, heartbeat: &Heartbeat) {
        let mut waiting = self.lock();
        // The same as is being told already.
        if waiting
            .get(&heartbeat.node_id)
            .is_some_and(|told| told.mode == heartbeat.mode)
        {
            return;
        }
        let report = NodeReportedModeRequest {
            node_id: heartbeat.node_id.clone(),
            mode: heartbeat.mode,
            incarnation: heartbeat.incarnation,
            seq: heartbeat.seq,
        };
        waiting.insert(heartbeat.node_id.clone(), report);
        drop(waiting);
        self.bell.ring();
    }

    fn some(&self) -> Vec<NodeReportedModeRequest> {
        self.lock().values().take(BATCH).cloned().collect()
    }

    /// Unless it reported another mode meanwhile.
    fn told(&self, told: &NodeReportedModeRequest) {
        let mut waiting = self.lock();
        if waiting.get(&told.node_id).is_some_and(|now| now.mode == told.mode) {
            waiting.remove(&told.node_id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, NodeReportedModeRequest>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn pass(state: Arc<State>) -> PassReport {
    let reports = state.modes.some();
    if reports.is_empty() {
        return PassReport::default();
    }
    let is_full = reports.len() == BATCH;
    let reports = match still_untold(&state, reports).await {
        Ok(reports) => reports,
        Err(error) => return PassReport::failed(error),
    };
    let answers = futures::stream::iter(reports).map(|report| {
        let state = Arc::clone(&state);
        async move {
            let answer = ask(&state, &report).await;
            (report, answer)
        }
    });
    let answers: Vec<_> = answers.buffer_unordered(IN_FLIGHT).collect().await;
    let mut pass = PassReport::planned(answers.len());
    let mut settled = Vec::new();
    for (report, answer) in answers {
        match answer {
            Ok(entry) => {
                state.directory.hear(report.node_id.clone(), Some(registered(&entry)));
                settled.push(report);
            }
            Err(problem) if problem.is_transient() || problem.status >= 500 => {
                pass.error.get_or_insert(problem.to_string());
            }
            Err(problem) => {
                tracing::warn!(node = %report.node_id, %problem, "the registry does not take a node's mode");
                settled.push(report);
            }
        }
    }
    if let Err(error) = settle(&state, &settled).await {
        pass.error.get_or_insert(error.to_string());
    }
    if is_full && pass.error.is_none() {
        state.modes.bell.ring();
    }
    pass
}

/// Another process that hears the node, too, may have told it meanwhile.
async fn still_untold(
    state: &State,
    reports: Vec<NodeReportedModeRequest>,
) -> Result<Vec<NodeReportedModeRequest>, sqlx::Error> {
    let nodes: Vec<&str> = reports.iter().map(|report| report.node_id.as_str()).collect();
    let untold: HashSet<String> = beats::untold_modes(&state.pool, &nodes).await?.into_iter().collect();
    let is_untold = |report: &NodeReportedModeRequest| untold.contains(report.node_id.as_str());
    let (untold, told): (Vec<_>, Vec<_>) = reports.into_iter().partition(is_untold);
    told.iter().for_each(|report| state.modes.told(report));
    Ok(untold)
}

async fn ask(state: &State, report: &NodeReportedModeRequest) -> Result<NodeEntry, Problem> {
    let tenant = state.directory.get(&report.node_id).map(|registered| registered.tenant);
    let caller = Caller::service(state.context.service, tenant.unwrap_or_default());
    state.context.bus.call::<NodeReportedMode>(&caller, report).await
}

/// Another process, and this one after a restart, need not tell it again.
async fn settle(state: &State, settled: &[NodeReportedModeRequest]) -> Result<(), sqlx::Error> {
    if settled.is_empty() {
        return Ok(());
    }
    let told: Vec<(String, NodeMode)> = settled
        .iter()
        .map(|report| (report.node_id.to_string(), report.mode))
        .collect();
    let mut tx = every_tenant_tx(&state.pool).await?;
    beats::modes_told(&mut tx, &told).await?;
    tx.commit().await?;
    settled.iter().for_each(|report| state.modes.told(report));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::beat;

    #[test]
    fn a_mode_is_told_once_however_often_it_is_reported() {
        let modes = Modes::default();
        let mut heartbeat = beat("n", 1, 1, 0).heartbeat;
        modes.report(&heartbeat);
        heartbeat.seq = 2;
        modes.report(&heartbeat);
        let first = modes.some();
        assert_eq!((first.len(), first[0].seq), (1, 1));
        // Another one meanwhile waits for its own turn.
        heartbeat.mode = NodeMode::Sleep;
        modes.report(&heartbeat);
        modes.told(&first[0]);
        let second = modes.some();
        assert_eq!((second.len(), second[0].mode), (1, NodeMode::Sleep));
        modes.told(&second[0]);
        assert!(modes.some().is_empty());
    }
}
