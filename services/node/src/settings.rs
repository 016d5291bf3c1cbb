//! How the node is configured: kept here, known to the mesh. What is changed here counts at once and is told to the mesh
//! until it answers; what the mesh knows counts where nothing was changed here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_api::fleet::{NodeConfiguration, NodeConfigure, NodeConfigureRequest, NodeEntry, Viewer};
use mesh_api::identity::Enroll;
use mesh_types::fleet::NodeMode;
use mesh_types::{Code, Problem};
use tokio_util::sync::CancellationToken;

use crate::join::{Door, enroll_request, take_on};
use crate::{Node, identity};

/// How long who changes something waits for the mesh; then it is told later.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Of texts in a configuration.
const TEXT_BYTES_MAX: usize = 255;

impl Node {
    /// What counts now.
    pub(crate) fn configuration(&self) -> NodeConfiguration {
        let mut configuration = self.state.get().configuration.unwrap_or_default();
        configuration.node_uid = Some(self.execution.node.clone());
        configuration
    }

    pub(crate) fn mode(&self) -> NodeMode {
        self.state.mode()
    }

    /// Keeps a configuration, and tells the mesh. `node_uid` stays what it is, whatever is asked for. Without a mesh it
    /// is told later. Answers what counts from now on.
    ///
    /// # Errors
    /// It is not valid, the mesh refuses it, or it cannot be kept; nothing is changed then.
    pub(crate) async fn reconfigure(&self, mut wanted: NodeConfiguration) -> Result<NodeConfiguration, Problem> {
        check(&wanted)?;
        wanted.node_uid = Some(self.execution.node.clone());
        // One after the other: the last one that was asked for is the one that counts.
        let _turn = self.reconfiguring.lock().await;
        let told = tokio::time::timeout(PATIENCE, self.tell_configuration(&wanted)).await;
        let told = match told {
            Ok(Err(problem)) if is_refusal(&problem) => return Err(problem),
            Ok(Ok(entry)) => Some(entry),
            Ok(Err(_)) | Err(_) => None,
        };
        let before = self.mode();
        let is_told = told.is_some();
        let changed = self.state.change(move |stored| {
            stored.configuration = Some(wanted);
            stored.is_reported = false;
            if let Some(entry) = told {
                stored.is_reported = true;
                take_on(stored, entry);
            }
        });
        changed.await.map_err(|error| not_kept(&error))?;
        self.mode_may_differ(before);
        if !is_told {
            self.untold.ring();
        }
        Ok(self.configuration())
    }

    async fn tell_configuration(&self, configuration: &NodeConfiguration) -> Result<NodeEntry, Problem> {
        let request = NodeConfigureRequest {
            viewer: Viewer {
                owner: self.state.get().owner,
            },
            node_id: self.execution.node.clone(),
            configuration: configuration.clone(),
            labels: None,
        };
        self.execution.ask::<NodeConfigure>(&request).await
    }

    /// Everybody who goes by the mode looks again.
    fn mode_may_differ(&self, before: NodeMode) {
        let mode = self.mode();
        if mode != before {
            tracing::info!(?before, ?mode, "the node's mode has changed");
            self.is_mode_changed.store(true, Ordering::Release);
            self.claimable.ring();
        }
        self.report.ring();
    }

    /// Whether the mode has changed since it was asked last.
    pub(crate) fn took_mode_change(&self) -> bool {
        self.is_mode_changed.swap(false, Ordering::AcqRel)
    }
}

/// Tells the mesh who this node is and how it is configured, as often as it takes, at the start and whenever somebody
/// rings.
pub(crate) async fn introduce(node: Arc<Node>, door: Door, is_introduced: bool, ended: CancellationToken) {
    let mut pause = RETRY_MIN;
    let mut reconnects = node.context.bus.reconnects();
    reconnects.mark_unchanged();
    let mut is_due = !is_introduced || !node.state.get().is_reported;
    while !ended.is_cancelled() {
        if is_due {
            match ended.run_until_cancelled(introduce_once(&node, &door)).await {
                None => return,
                Some(Ok(())) => {
                    is_due = false;
                    pause = RETRY_MIN;
                }
                Some(Err(problem)) if is_refusal(&problem) || problem.is(Code::Unauthorized) => {
                    let next = problem
                        .next
                        .as_deref()
                        .unwrap_or("`mesh nodes` at the mesh shows whose it is");
                    tracing::error!(%problem, next, "the mesh does not know this node as what it is");
                    pause = RETRY_MAX;
                }
                Some(Err(problem)) => {
                    tracing::debug!(%problem, "the mesh is not told of this node yet");
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
        let wait = if is_due { pause } else { Duration::MAX };
        tokio::select! {
            () = ended.cancelled() => {}
            () = node.untold.rung() => is_due = true,
            // A bell of the registry may have rung meanwhile.
            changed = reconnects.changed() => is_due |= changed.is_ok(),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn introduce_once(node: &Arc<Node>, door: &Door) -> Result<(), Problem> {
    // Before anything is asked: what somebody configures meanwhile must not be overwritten by an older answer.
    let _turn = node.reconfiguring.lock().await;
    let stored = node.state.get();
    let request = enroll_request(&node.config, door, &stored, stored.secret.clone());
    let enrolled = if stored.secret.is_some() {
        node.execution.ask::<Enroll>(&request).await?
    } else {
        let caller = mesh_api::Caller::service("node", request.tenant.clone().unwrap_or_default());
        node.context.bus.call::<Enroll>(&caller, &request).await?
    };
    let before = node.mode();
    let entry = if node.state.get().is_reported {
        enrolled.node
    } else {
        node.tell_configuration(&node.configuration()).await?
    };
    let changed = node.state.change(move |stored| {
        stored.is_reported = true;
        take_on(stored, entry);
    });
    changed.await.map_err(|error| not_kept(&error))?;
    node.mode_may_differ(before);
    tracing::info!(node = %node.execution.node, mode = ?node.mode(), "the mesh knows this node");
    Ok(())
}

fn not_kept(error: &identity::StateError) -> Problem {
    Problem::new(Code::Internal, format!("the configuration cannot be kept: {error}"))
}

/// Asking again would change nothing.
fn is_refusal(problem: &Problem) -> bool {
    matches!(problem.status, 400 | 403 | 409 | 413 | 422)
}

fn check(configuration: &NodeConfiguration) -> Result<(), Problem> {
    let texts = [
        ("billable_account_uid", &configuration.billable_account_uid),
        ("billable_account_type", &configuration.billable_account_type),
        ("billable_account_handle", &configuration.billable_account_handle),
    ];
    for (field, text) in texts {
        if text.as_ref().is_some_and(|text| text.len() > TEXT_BYTES_MAX) {
            let detail = format!("{field} is longer than {TEXT_BYTES_MAX} bytes");
            return Err(Problem::new(Code::InvalidRequest, detail).field(field));
        }
    }
    if configuration.sharing.invocations_max == Some(0) {
        let detail = "sharing.invocations_max is 0: nobody would be served";
        let problem = Problem::new(Code::InvalidRequest, detail).field("sharing.invocations_max");
        return Err(problem.next("leave it away, or choose the mode `private`"));
    }
    Ok(())
}
