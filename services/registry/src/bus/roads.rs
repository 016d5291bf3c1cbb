//! `artifact-get` and `node-configure` as nodes ask them: the artifacts of what they are to run, and their own entry.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::fleet::{NodeConfigure, NodeConfigureRequest, NodeEntry, Viewer};
use mesh_api::registry::{Artifact, ArtifactGet, ArtifactRequest};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bucket, ServiceBuilder};
use mesh_runtime::Roads;
use mesh_types::fleet::Assignment;
use mesh_types::{Code, NodeId, Problem};

use super::{nodes, resolve};
use crate::state::State;

/// A node hears of its assignment by the reconciler's answer, perhaps a moment before it stands in the bucket.
const ASSIGNED_TRIES: u32 = 6;
const ASSIGNED_PAUSE: Duration = Duration::from_millis(300);

pub(super) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let roads = Roads::new(&state.context);
    macro_rules! handler {
        ($handler:path) => {{
            let (state, roads) = (Arc::clone(state), Arc::clone(&roads));
            move |node, asked| $handler(Arc::clone(&state), Arc::clone(&roads), node, asked)
        }};
    }
    service
        .node_endpoint::<ArtifactGet, _, _>(handler!(artifact))
        .node_endpoint::<NodeConfigure, _, _>(handler!(configure))
}

/// Of a replica that the node is assigned: what the reconciler wrote decides, nothing that the node says.
async fn artifact(
    state: Arc<State>,
    roads: Arc<Roads>,
    node: NodeId,
    request: ArtifactRequest,
) -> Result<Artifact, Problem> {
    let mut tries = 0;
    while !is_assigned(&state, &node, &request).await? {
        tries += 1;
        if tries == ASSIGNED_TRIES {
            let detail = format!("node {node} runs nothing of artifact {}", request.hash);
            return Err(roads.refuse(&node, ArtifactGet::NAME, Problem::new(Code::Forbidden, detail)));
        }
        tokio::time::sleep(ASSIGNED_PAUSE).await;
    }
    let caller = state.context.caller(request.tenant.clone());
    resolve::artifact(state, caller, request).await
}

async fn is_assigned(state: &State, node: &NodeId, request: &ArtifactRequest) -> Result<bool, Problem> {
    let key = format!("node.{node}");
    let Some(bytes) = state.context.bus.kv_get(Bucket::Assignments, &key).await? else {
        return Ok(false);
    };
    let assignment: Assignment = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::new(Code::Internal, format!("the assignment of {node}: {error}")))?;
    let mut replicas = assignment.replicas.iter();
    Ok(replicas.any(|replica| replica.tenant == request.tenant && replica.hash == request.hash))
}

/// Its own, in the name of its owner.
async fn configure(
    state: Arc<State>,
    roads: Arc<Roads>,
    node: NodeId,
    request: NodeConfigureRequest,
) -> Result<NodeEntry, Problem> {
    if request.node_id != node {
        let problem = Problem::new(Code::Forbidden, format!("node {node} is not {}", request.node_id));
        return Err(roads.refuse(&node, NodeConfigure::NAME, problem));
    }
    let entry = nodes::own_entry(&state, &node).await?;
    let caller = Caller {
        role: None,
        tenant: entry.tenant,
        actor: format!("node:{node}"),
        request_id: None,
    };
    let viewer = Viewer {
        owner: Some(entry.owner),
    };
    nodes::configure(state, caller, NodeConfigureRequest { viewer, ..request }).await
}
