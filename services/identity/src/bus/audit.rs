//! `audit-note`, `audit-list`.

use std::sync::Arc;

use mesh_api::identity::{AuditEntry, AuditFact, AuditNoted, AuditOutcome, AuditQuery};
use mesh_api::{Caller, Page};
use mesh_types::{EventId, Problem};

use super::{Reach, parse};
use crate::state::{State, failed};
use crate::store::audit as store;

pub(super) async fn note(state: Arc<State>, caller: Caller, entry: AuditEntry) -> Result<AuditNoted, Problem> {
    match entry.outcome {
        AuditOutcome::Refused => state.note_refused(&caller.tenant, entry).await,
        AuditOutcome::Done => state.note_alone(&caller.tenant, entry).await?,
    }
    Ok(AuditNoted {})
}

/// Newest first. Who is no administrator sees what he did himself.
pub(super) async fn list(state: Arc<State>, caller: Caller, query: AuditQuery) -> Result<Page<AuditFact>, Problem> {
    let reach = Reach::of(&caller)?;
    let after = query.page.after.as_deref();
    let wanted = store::Wanted {
        outcome: query.outcome,
        action: query.action.as_deref(),
        actor: reach.owner().map(|_| caller.actor.as_str()),
        before: after.map(|text| parse::<EventId>(text, "after")).transpose()?,
    };
    let limit = query.page.limit();
    let mut tx = state.begin(&caller.tenant).await?;
    let facts = store::list(&mut *tx, &wanted, i64::from(limit) + 1)
        .await
        .map_err(failed("listing audit facts"))?;
    Ok(Page::cut(facts, limit, |fact| fact.id.clone()))
}
