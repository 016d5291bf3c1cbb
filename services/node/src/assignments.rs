//! Asks what this node is to run: at its start, at its bell, after a reconnect and every ten seconds; and prepares what
//! is new: fetches its artifact and looks whether this machine can run it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use mesh_api::reconciler::{AssignmentRequest, NodeAssignment};
use mesh_api::registry::{ArtifactGet, ArtifactRequest};
use mesh_types::Problem;
use mesh_types::agent::AgentSpec;
use mesh_types::fleet::{AssignedReplica, ReplicaState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Node;
use crate::artifacts::Artifacts;
use crate::replicas::Taken;

/// An unanswered question is asked again after so long.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Artifacts that are asked for at the same time.
const FETCHES_MAX: usize = 8;

pub(crate) struct Assignments {
    node: Arc<Node>,
    artifacts: Artifacts,
    ended: CancellationToken,
    reconnects: watch::Receiver<u64>,
}

impl Assignments {
    pub(crate) fn new(node: &Arc<Node>, ended: CancellationToken) -> Self {
        let mut reconnects = node.context.bus.reconnects();
        reconnects.mark_unchanged();
        Self {
            artifacts: Artifacts::new(node.state.folder().join("artifacts")),
            node: Arc::clone(node),
            ended,
            reconnects,
        }
    }

    pub(crate) async fn run(mut self) {
        let ended = self.ended.clone();
        while !ended.is_cancelled() {
            let pause = match ended.run_until_cancelled(self.pass()).await {
                None => return,
                Some(Ok(())) => self.node.config.assignment(),
                Some(Err(problem)) => {
                    tracing::debug!(%problem, "what this node is to run is not known now; it goes on with what it has");
                    RETRY_PAUSE.max(self.node.config.assignment() / 4)
                }
            };
            tokio::select! {
                () = ended.cancelled() => {}
                () = self.node.assigned.rung() => {}
                _ = self.reconnects.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn pass(&self) -> Result<(), Problem> {
        let request = AssignmentRequest {
            incarnation: self.node.execution.incarnation,
        };
        let answered = self.node.execution.ask::<NodeAssignment>(&request).await;
        let is_new = match &answered {
            Ok(assignment) => self.node.replicas.take(assignment.clone()) == Taken::New,
            Err(_) => false,
        };
        if is_new {
            let generation = self.node.replicas.generation();
            if generation > 0 {
                tracing::info!(generation, replicas = ?names(&self.node), "what this node is to run has changed");
            }
            self.node.report.ring();
            // Something may be claimed that was not before.
            self.node.claimable.ring();
        }
        self.prepare().await;
        answered.map(|_| ())
    }

    /// What failed is looked at again each time: its program may be here by now.
    async fn prepare(&self) {
        let unprepared = self.node.replicas.unprepared();
        let specs = self.specs(&unprepared).await;
        let mut is_changed = false;
        for (assigned, _) in unprepared {
            let (state, detail) = match specs.get(&assigned.hash) {
                Some(Ok(spec)) => {
                    self.node.replicas.has_artifact(assigned.replica, Arc::clone(spec));
                    match mesh_tools::can_run(spec) {
                        Ok(()) => (ReplicaState::Ready, String::new()),
                        Err(problem) => (ReplicaState::Failed, problem.detail),
                    }
                }
                Some(Err(NotHere::Broken(why))) => (ReplicaState::Failed, why.clone()),
                Some(Err(NotHere::Yet(why))) => (ReplicaState::Starting, why.clone()),
                None => continue,
            };
            if self.node.replicas.set(assigned.replica, state, &detail) {
                told(&assigned, state, &detail);
                is_changed = true;
            }
        }
        if is_changed {
            self.node.report.ring();
            self.node.claimable.ring();
        }
    }

    /// By hash: several replicas of one artifact are one question.
    async fn specs(&self, wanted: &[Wanted]) -> HashMap<String, Result<Arc<AgentSpec>, NotHere>> {
        let mut specs = HashMap::new();
        let mut missing = HashMap::new();
        for (assigned, known) in wanted {
            match known {
                Some(spec) => drop(specs.insert(assigned.hash.clone(), Ok(Arc::clone(spec)))),
                None => drop(missing.insert(assigned.hash.clone(), assigned.clone())),
            }
        }
        let fetched = futures::stream::iter(missing)
            .map(|(hash, assigned)| async move { (hash, self.fetch(assigned).await) })
            .buffer_unordered(FETCHES_MAX);
        specs.extend(fetched.collect::<Vec<_>>().await);
        specs
    }

    async fn fetch(&self, assigned: AssignedReplica) -> Result<Arc<AgentSpec>, NotHere> {
        if let Some(spec) = self.artifacts.get(&assigned.hash).await {
            return Ok(spec);
        }
        let request = ArtifactRequest {
            tenant: assigned.tenant.clone(),
            hash: assigned.hash.clone(),
        };
        // Also a refusal may be over soon: the registry hears of an assignment a moment later than its node.
        let asked = self.node.execution.ask::<ArtifactGet>(&request).await;
        let artifact = asked.map_err(|problem| NotHere::Yet(format!("its artifact is not here yet: {problem}")))?;
        let put = self
            .artifacts
            .put(&assigned.hash, artifact.bytes, self.node.replicas.hashes());
        put.await.map_err(|problem| NotHere::Broken(problem.detail))
    }
}

/// A replica, and its artifact if that is here.
type Wanted = (AssignedReplica, Option<Arc<AgentSpec>>);

/// Why there is no artifact.
enum NotHere {
    Yet(String),
    /// It came, and is not what it should be.
    Broken(String),
}

fn told(assigned: &AssignedReplica, state: ReplicaState, detail: &str) {
    let AssignedReplica {
        replica,
        agent,
        version,
        ..
    } = assigned;
    match state {
        ReplicaState::Failed => tracing::warn!(%replica, %agent, version, detail, "a replica cannot run here"),
        ReplicaState::Starting => tracing::warn!(%replica, %agent, version, detail, "a replica waits"),
        ReplicaState::Ready | ReplicaState::Stopping => tracing::info!(%replica, %agent, version, "a replica is ready"),
    }
}

fn names(node: &Node) -> Vec<String> {
    let of = |report: mesh_types::fleet::ReplicaReport| format!("{} v{}", report.agent, report.version);
    node.replicas.reports(&[]).into_iter().map(of).collect()
}
