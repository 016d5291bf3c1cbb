//! What this node is to run, and how far each replica is. No I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_types::agent::AgentSpec;
use mesh_types::fleet::{AssignedReplica, Assignment, ReplicaReport, ReplicaState};
use mesh_types::{AgentName, ReplicaId, Tenant};

use crate::held::RunningWork;

#[derive(Debug)]
struct Replica {
    assigned: AssignedReplica,
    state: ReplicaState,
    detail: String,
    spec: Option<Arc<AgentSpec>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None`: no reconciler has answered yet, and nobody knows.
    generation: Option<(u64, u64)>,
    is_drained: bool,
    all: BTreeMap<ReplicaId, Replica>,
}

#[derive(Debug, Default)]
pub(crate) struct Replicas {
    inner: Mutex<Inner>,
}

/// What an assignment changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is the one that is known, or an older one.
    Old,
    New,
}

impl Replicas {
    /// Takes on an assignment, all of it. Work of a replica that it leaves out goes on until its owner stops it.
    pub(crate) fn take(&self, assignment: Assignment) -> Taken {
        let mut inner = self.inner();
        if let Some((epoch, generation)) = inner.generation
            && assignment.epoch <= epoch
            && assignment.generation <= generation
        {
            return Taken::Old;
        }
        inner.generation = Some((assignment.epoch, assignment.generation));
        inner.is_drained = assignment.drained;
        let mut known = std::mem::take(&mut inner.all);
        for assigned in assignment.replicas {
            let kept = known.remove(&assigned.replica);
            let is_same = |kept: &Replica| kept.assigned.hash == assigned.hash;
            let replica = match kept.filter(is_same) {
                Some(kept) => Replica { assigned, ..kept },
                None => Replica {
                    assigned,
                    state: ReplicaState::Starting,
                    detail: String::new(),
                    spec: None,
                },
            };
            inner.all.insert(replica.assigned.replica, replica);
        }
        Taken::New
    }

    /// Those that are not ready and have no reason to be left alone.
    pub(crate) fn unprepared(&self) -> Vec<(AssignedReplica, Option<Arc<AgentSpec>>)> {
        let inner = self.inner();
        let waiting = inner.all.values().filter(|replica| {
            !replica.assigned.stopping && matches!(replica.state, ReplicaState::Starting | ReplicaState::Failed)
        });
        waiting
            .map(|replica| (replica.assigned.clone(), replica.spec.clone()))
            .collect()
    }

    /// How far a replica is now; `false` where that is no news, or it is not to run here any more.
    pub(crate) fn set(&self, replica: ReplicaId, state: ReplicaState, detail: &str) -> bool {
        let mut inner = self.inner();
        match inner.all.get_mut(&replica) {
            Some(known) if known.state != state || known.detail != detail => {
                known.state = state;
                known.detail = detail.to_owned();
                true
            }
            _ => false,
        }
    }

    /// Its artifact is here.
    pub(crate) fn has_artifact(&self, replica: ReplicaId, spec: Arc<AgentSpec>) {
        if let Some(known) = self.inner().all.get_mut(&replica) {
            known.spec = Some(spec);
        }
    }

    /// Hashes of all artifacts that are needed.
    pub(crate) fn hashes(&self) -> Vec<String> {
        self.inner()
            .all
            .values()
            .map(|replica| replica.assigned.hash.clone())
            .collect()
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.inner().is_drained
    }

    pub(crate) fn generation(&self) -> u64 {
        self.inner().generation.map_or(0, |(_, generation)| generation)
    }

    /// Agents that may be claimed for; `None` where no reconciler says what runs here.
    pub(crate) fn ready(&self) -> Option<Vec<(Tenant, AgentName)>> {
        let inner = self.inner();
        inner.generation?;
        let ready = inner
            .all
            .values()
            .filter(|replica| replica.state == ReplicaState::Ready && !replica.assigned.stopping);
        let mut names: Vec<_> = ready
            .map(|replica| (replica.assigned.tenant.clone(), replica.assigned.agent.clone()))
            .collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// Each with what it runs of what is held.
    pub(crate) fn reports(&self, held: &[RunningWork]) -> Vec<ReplicaReport> {
        let inner = self.inner();
        let mut reports: Vec<ReplicaReport> = inner.all.values().map(report).collect();
        let most: Vec<u32> = inner.all.values().map(|replica| replica.assigned.concurrency).collect();
        drop(inner);
        for work in held {
            if let Some(at) = place(&reports, &most, work) {
                reports[at].running += 1;
            }
        }
        reports
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(replica: &Replica) -> ReplicaReport {
    let assigned = &replica.assigned;
    let state = match replica.state {
        ReplicaState::Ready | ReplicaState::Starting if assigned.stopping => ReplicaState::Stopping,
        state => state,
    };
    ReplicaReport {
        replica: assigned.replica,
        tenant: assigned.tenant.clone(),
        agent: assigned.agent.clone(),
        version: assigned.version,
        state,
        detail: replica.detail.clone(),
        running: 0,
    }
}

/// Whose work it is: a replica of its own version where there is one; of these, one that stops and has room comes
/// last.
fn place(reports: &[ReplicaReport], most: &[u32], work: &RunningWork) -> Option<usize> {
    let of_agent = |at: &usize| reports[*at].tenant == work.tenant && reports[*at].agent == work.agent;
    let rank = |at: &usize| {
        let report = &reports[*at];
        let is_other = work.version.is_some_and(|version| version != report.version);
        let is_full = report.running >= most[*at];
        (is_other, is_full, report.state == ReplicaState::Stopping)
    };
    (0..reports.len()).filter(of_agent).min_by_key(rank)
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;

    use super::*;

    fn assigned(number: u128, agent: &str, version: u32) -> AssignedReplica {
        AssignedReplica {
            replica: ReplicaId::from_u128(number),
            tenant: Tenant::default(),
            agent: agent.parse().unwrap(),
            version,
            hash: format!("hash-{agent}-{version}"),
            concurrency: 2,
            stopping: false,
            foreign: false,
        }
    }

    fn assignment(generation: u64, replicas: Vec<AssignedReplica>) -> Assignment {
        Assignment {
            generation,
            epoch: 1,
            replicas,
            drained: false,
            others_max: None,
        }
    }

    fn work(agent: &str, version: Option<u32>) -> RunningWork {
        RunningWork {
            tenant: Tenant::default(),
            agent: agent.parse().unwrap(),
            version,
        }
    }

    #[test]
    fn an_older_assignment_changes_nothing_and_a_new_epoch_counts_anew() {
        let replicas = Replicas::default();
        assert_eq!(replicas.ready(), None, "nobody has said what runs here");
        assert_eq!(replicas.take(assignment(3, vec![assigned(1, "a", 1)])), Taken::New);
        assert!(replicas.set(ReplicaId::from_u128(1), ReplicaState::Ready, ""));
        assert!(!replicas.set(ReplicaId::from_u128(1), ReplicaState::Ready, ""));
        assert_eq!(replicas.take(assignment(3, Vec::new())), Taken::Old);
        assert_eq!(replicas.take(assignment(2, Vec::new())), Taken::Old);
        assert_eq!(replicas.ready().unwrap().len(), 1);
        let mut restored = assignment(1, Vec::new());
        restored.epoch = 2;
        assert_eq!(replicas.take(restored), Taken::New);
        assert_eq!(replicas.ready().unwrap(), []);
    }

    #[test]
    fn a_replica_that_stays_keeps_its_state_and_another_artifact_starts_over() {
        let replicas = Replicas::default();
        replicas.take(assignment(1, vec![assigned(1, "a", 1), assigned(2, "b", 1)]));
        for number in [1, 2] {
            replicas.set(ReplicaId::from_u128(number), ReplicaState::Ready, "");
        }
        let mut stopping = assigned(1, "a", 1);
        stopping.stopping = true;
        replicas.take(assignment(2, vec![stopping, assigned(2, "b", 2)]));
        let reports = replicas.reports(&[]);
        assert_eq!(reports[0].state, ReplicaState::Stopping);
        assert_eq!(reports[1].state, ReplicaState::Starting);
        assert_eq!(replicas.ready().unwrap(), []);
        assert_eq!(replicas.unprepared().len(), 1);
    }

    #[test]
    fn work_is_counted_where_its_version_runs() {
        let replicas = Replicas::default();
        let mut old = assigned(1, "a", 1);
        old.stopping = true;
        replicas.take(assignment(1, vec![old, assigned(2, "a", 2), assigned(3, "a", 2)]));
        for number in 1..=3 {
            replicas.set(ReplicaId::from_u128(number), ReplicaState::Ready, "");
        }
        let held = [
            work("a", Some(1)),
            work("a", Some(2)),
            work("a", Some(2)),
            work("a", Some(2)),
            work("other", Some(1)),
        ];
        let running: Vec<u32> = replicas.reports(&held).iter().map(|report| report.running).collect();
        assert_eq!(running, [1, 2, 1]);
        let unknown = [work("a", None), work("a", Some(7))];
        let running: Vec<u32> = replicas.reports(&unknown).iter().map(|report| report.running).collect();
        assert_eq!(running, [0, 2, 0]);
    }
}
