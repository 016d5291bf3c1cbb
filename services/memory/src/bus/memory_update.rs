//! `memory-update`: what it was is kept; new content gets a new vector, in the same transaction.

use mesh_api::Caller;
use mesh_api::memory::{Memory, MemoryChange, UpdateRequest};
use mesh_store::{Outbox, tenant_tx};
use mesh_types::event::Fact;
use mesh_types::{Code, MemoryId, Problem, Timestamp};
use sqlx::PgConnection;

use super::database;
use crate::embed::EmbedError;
use crate::request::check_change;
use crate::same::content_hash;
use crate::state::{State, not_found};
use crate::store::embed_queue;
use crate::store::history::{self, Changed};
use crate::store::vectors::{self, Vector};

const DOING: &str = "changing the memory";

pub(super) async fn handle(state: &State, caller: Caller, request: UpdateRequest) -> Result<Memory, Problem> {
    let UpdateRequest { id, change } = request;
    check_change(&change)?;
    let embedded = match &change.content {
        Some(content) => Some(state.embed_text(&caller.tenant, content).await),
        None => None,
    };
    let tenant = &caller.tenant;
    let now = state.now();
    let mut tx = tenant_tx(&state.pool, tenant).await.map_err(database(DOING))?;
    let row = history::lock(&mut tx, tenant, id, now).await.map_err(database(DOING))?;
    let before: Memory = row.ok_or_else(|| not_found(id))?.try_into()?;
    check_version(&before, &change)?;
    let expires_at = expiry(&before, &change, now);
    if is_same(&before, &change) && expires_at == before.expires_at {
        return Ok(before);
    }
    if change
        .content
        .as_ref()
        .is_some_and(|content| *content != before.content)
    {
        let embedded = embedded.unwrap_or(Err(EmbedError::Unavailable("it was not asked".to_owned())));
        replace_vector(state, &mut tx, &caller, before.id, embedded).await?;
    }
    let content = change.content.as_ref().unwrap_or(&before.content);
    let changed = Changed {
        content,
        content_hash: content_hash(before.kind, content),
        tags: change.tags.as_ref().unwrap_or(&before.tags),
        importance: change.importance.unwrap_or(before.importance),
        expires_at,
        at: now,
        by: &caller.actor,
    };
    let row = history::change(&mut tx, tenant, before.id, &changed)
        .await
        .map_err(database(DOING))?;
    let memory: Memory = row.try_into()?;
    let fact = Fact::MemoryChanged {
        memory: memory.id,
        agent: memory.agent.clone(),
        version: memory.version,
    };
    let event = state.event_of(&caller, fact);
    Outbox::MEMORY.append(&mut tx, &event).await.map_err(database(DOING))?;
    tx.commit().await.map_err(database(DOING))?;
    state.outbox_bell.ring();
    if !memory.embedded {
        state.embed_bell.ring();
    }
    if memory
        .expires_at
        .is_some_and(|at| at <= now.plus(state.config.expire_tick()))
    {
        state.expire_bell.ring();
    }
    Ok(memory)
}

fn check_version(before: &Memory, change: &MemoryChange) -> Result<(), Problem> {
    if change.version.is_some_and(|version| version != before.version) {
        let detail = format!("memory `{}` is of version {} now", before.id, before.version);
        return Err(Problem::new(Code::MemoryStale, detail)
            .field("version")
            .next("read it again and apply the change to what it is now"));
    }
    match before.superseded_by {
        Some(by) => Err(Problem::new(
            Code::MemoryStale,
            format!("memory `{}` was replaced by `{by}`", before.id),
        )
        .next(format!("change `{by}`"))),
        None => Ok(()),
    }
}

fn expiry(before: &Memory, change: &MemoryChange, now: Timestamp) -> Option<Timestamp> {
    match change.ttl_seconds {
        Some(0) => None,
        Some(seconds) => Some(now.plus(std::time::Duration::from_secs(seconds))),
        None => before.expires_at,
    }
}

/// A change that was made already is none: a request that is sent once more leaves no second version.
fn is_same(before: &Memory, change: &MemoryChange) -> bool {
    change.content.as_ref().is_none_or(|content| *content == before.content)
        && change.tags.as_ref().is_none_or(|tags| *tags == before.tags)
        && change
            .importance
            .is_none_or(|importance| importance.total_cmp(&before.importance).is_eq())
}

async fn replace_vector(
    state: &State,
    tx: &mut PgConnection,
    caller: &Caller,
    id: MemoryId,
    embedded: Result<Vector, EmbedError>,
) -> Result<(), Problem> {
    let tenant = &caller.tenant;
    vectors::drop_all(tx, tenant, id).await.map_err(database(DOING))?;
    match embedded {
        Ok(vector) => {
            vectors::put(tx, tenant, id, &vector).await.map_err(database(DOING))?;
            embed_queue::remove(tx, tenant, id).await
        }
        Err(error) => {
            tracing::warn!(%error, "a memory is changed without its vector");
            let next_at = state.now().plus(state.config.embed_retry(1));
            embed_queue::put(tx, tenant, id, next_at).await
        }
    }
    .map_err(database(DOING))
}
