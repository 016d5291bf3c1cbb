//! `agent-publish`, `agent-versions`, `agent-rollback`: immutable versions and the pointer to one of them.

use std::sync::Arc;

use mesh_api::registry::{AgentGuarded, Published, RollbackRequest, VersionView, VersionsRequest};
use mesh_api::{Caller, Page};
use mesh_runtime::MetricName;
use mesh_types::event::{Change, Fact};
use mesh_types::{AgentName, Code, Problem, Timestamp};
use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{REPLY_BYTES_MAX, agents, chunk, tenants};
use crate::agents::{Current, Stored};
use crate::artifact::Hash;
use crate::state::{State, failed};
use crate::store::{agents as store, versions};

/// Artifact, version and pointer in one transaction; the answer comes after its commit.
pub(super) async fn publish(state: Arc<State>, caller: Caller, request: AgentGuarded) -> Result<Published, Problem> {
    let tenant = &caller.tenant;
    let mut tx = state.begin(tenant).await?;
    tenants::check(&state, &mut tx, tenant).await?;
    let stored = agents::lock_guarded(&mut tx, tenant, &request.agent, request.if_match.as_deref()).await?;
    stored.declared.agent.publishable()?;
    let at = state.context.clock.now();
    let artifact = &stored.declared.artifact;
    versions::put_artifact(&mut tx, tenant, artifact, at)
        .await
        .map_err(failed("storing the artifact"))?;
    let version = versions::ensure(&mut tx, tenant, &request.agent, &stored.declared, (at, &caller.actor))
        .await
        .map_err(failed("storing the version"))?;
    let moved = point_to(&state, &mut tx, &caller, &stored, version, artifact.hash, at).await?;
    state.commit(tx).await?;
    Ok(show(&state, &caller, request.agent, moved).await)
}

pub(super) async fn rollback(
    state: Arc<State>,
    caller: Caller,
    request: RollbackRequest,
) -> Result<Published, Problem> {
    let tenant = &caller.tenant;
    let mut tx = state.begin(tenant).await?;
    tenants::check(&state, &mut tx, tenant).await?;
    let stored = agents::lock_guarded(&mut tx, tenant, &request.agent, None).await?;
    let hash = versions::hash_of(&mut tx, tenant, &request.agent, request.version)
        .await
        .map_err(failed("reading a version"))?;
    let hash = hash.ok_or_else(|| {
        let detail = format!("agent `{}` has no version {}", request.agent, request.version);
        Problem::new(Code::VersionNotFound, detail)
            .field("version")
            .next("GET …/versions lists the versions there are")
    })?;
    let at = state.context.clock.now();
    let moved = point_to(&state, &mut tx, &caller, &stored, request.version, hash, at).await?;
    state.commit(tx).await?;
    Ok(show(&state, &caller, request.agent, moved).await)
}

pub(super) async fn list(
    state: Arc<State>,
    caller: Caller,
    request: VersionsRequest,
) -> Result<Page<VersionView>, Problem> {
    let tenant = &caller.tenant;
    let limit = request.page.limit();
    let mut before: Option<u32> = agents::cursor(request.page.after.as_deref())?;
    let mut tx = state.begin(tenant).await?;
    tenants::check(&state, &mut tx, tenant).await?;
    let is_first = before.is_none();
    let mut items: Vec<(VersionView, usize)> = Vec::new();
    let mut bytes = 0;
    while items.len() <= limit as usize && bytes <= REPLY_BYTES_MAX {
        let wanted = chunk(limit, items.len());
        let rows = versions::list(&mut tx, tenant, &request.agent, before, wanted)
            .await
            .map_err(failed("listing versions"))?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < wanted;
        bytes += rows.iter().map(|(_, size)| size).sum::<usize>();
        items.extend(rows);
        before = items.last().map(|(version, _)| version.version);
        if is_last {
            break;
        }
    }
    // Versions outlive their agent, so an empty first page alone does not tell.
    if is_first && items.is_empty() {
        let agent = store::get(&mut tx, tenant, &request.agent)
            .await
            .map_err(failed("reading an agent"))?;
        agent.ok_or_else(|| agents::missing(tenant, &request.agent))?;
    }
    let keep = super::fitting(items.iter().map(|(_, size)| *size), limit);
    let views = items.into_iter().map(|(view, _)| view).collect();
    Ok(Page::cut(views, keep, |view: &VersionView| view.version.to_string()))
}

/// Where the pointer is after the transaction, and whether it was there before.
struct Moved {
    current: Current,
    unchanged: bool,
}

async fn point_to(
    state: &State,
    tx: &mut PgConnection,
    caller: &Caller,
    stored: &Stored,
    version: u32,
    hash: Hash,
    at: Timestamp,
) -> Result<Moved, Problem> {
    if let Some(current) = stored.published.filter(|current| current.version == version) {
        return Ok(Moved {
            current,
            unchanged: true,
        });
    }
    let agent = stored.declared.agent.metadata.name.clone();
    store::point_to(tx, &caller.tenant, &agent, version, at)
        .await
        .map_err(failed("moving the pointer"))?;
    let fact = Fact::AgentPublished {
        agent,
        version,
        hash: hash.to_string(),
    };
    let change = Change {
        before: stored
            .published
            .map_or(Value::Null, |before| json!({"version": before.version})),
        after: json!({"version": version}),
    };
    state.record_change(tx, caller, fact, change).await?;
    Ok(Moved {
        current: Current {
            version,
            hash,
            published_at: at,
        },
        unchanged: false,
    })
}

/// After the commit: the pointer for all to see, and the answer.
async fn show(state: &State, caller: &Caller, agent: AgentName, moved: Moved) -> Published {
    if !moved.unchanged {
        state.context.metrics.counter(MetricName::AgentsPublished).add(1, &[]);
    }
    state.pointers.show(state, &caller.tenant, &agent).await;
    Published {
        agent,
        version: moved.current.version,
        hash: moved.current.hash.to_string(),
        published_at: moved.current.published_at,
        unchanged: moved.unchanged,
    }
}
