//! `agent-resolve`, `artifact-get`: what other services run. The request names the tenant; the caller's is a service's.

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::registry::{Artifact, ArtifactRequest, Pointer, ResolveRequest};
use mesh_types::{Code, Problem};

use super::{agents, tenants};
use crate::artifact::Hash;
use crate::state::{State, failed};
use crate::store;

pub(super) async fn agent(state: Arc<State>, _: Caller, request: ResolveRequest) -> Result<Pointer, Problem> {
    let ResolveRequest { tenant, agent } = request;
    let mut tx = state.begin(&tenant).await?;
    tenants::check(&state, &mut tx, &tenant).await?;
    let pointer = store::pointers::get(&mut tx, &tenant, &agent)
        .await
        .map_err(failed("reading a pointer"))?;
    if let Some(pointer) = pointer {
        return Ok(pointer);
    }
    let declared = store::agents::get(&mut tx, &tenant, &agent)
        .await
        .map_err(failed("reading an agent"))?;
    Err(match declared {
        None => agents::missing(&tenant, &agent),
        Some(_) => Problem::new(
            Code::AgentNotPublished,
            format!("agent `{agent}` was declared but never published"),
        )
        .field("agent")
        .next(format!("publish it: mesh apply -f FILE, POST …/agents/{agent}/publish")),
    })
}

pub(super) async fn artifact(state: Arc<State>, _: Caller, request: ArtifactRequest) -> Result<Artifact, Problem> {
    let hash: Hash = request
        .hash
        .parse()
        .map_err(|error| Problem::new(Code::InvalidRequest, format!("{error}")).field("hash"))?;
    let mut tx = state.begin(&request.tenant).await?;
    let bytes = store::versions::artifact(&mut tx, &request.tenant, &hash)
        .await
        .map_err(failed("reading an artifact"))?
        .ok_or_else(|| {
            Problem::new(
                Code::ArtifactNotFound,
                format!("tenant `{}` has no artifact {hash}", request.tenant),
            )
            .field("hash")
        })?;
    // What runs is what was published, or nothing does.
    if Hash::of(&bytes) != hash {
        tracing::error!(%hash, tenant = %request.tenant, "a stored artifact does not match its hash");
        return Err(Problem::new(
            Code::Internal,
            format!("the stored bytes of artifact {hash} do not match it"),
        ));
    }
    let bytes =
        String::from_utf8(bytes).map_err(|_| Problem::new(Code::Internal, format!("artifact {hash} is not UTF-8")))?;
    Ok(Artifact {
        hash: request.hash,
        bytes,
    })
}
