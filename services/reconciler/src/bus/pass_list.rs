//! `pass-list`: what passes did and why, newest first.

use std::sync::Arc;

use mesh_api::reconciler::Pass;
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::{Code, PassId, Problem};

use crate::brain;
use crate::state::{State, failed};
use crate::store::passes;

/// Bytes of one reply at which a list is cut: half of what the server carries in a message.
const REPLY_BYTES_MAX: i64 = 4 * 1024 * 1024;

pub(super) async fn list(state: Arc<State>, caller: Caller, query: PageQuery) -> Result<Page<Pass>, Problem> {
    let after: Option<PassId> = match query.after.as_deref().map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => {
            let detail = "`after` is no cursor of this list";
            return Err(Problem::new(Code::InvalidRequest, detail).field("after"));
        }
    };
    let limit = i64::from(query.limit());
    let read = passes::list(&state.pool, after, limit, REPLY_BYTES_MAX).await;
    let mut items = read.map_err(failed("listing passes"))?;
    let last = items.last().and_then(|pass| pass.id);
    let has_more = match last {
        Some(last) => passes::has_before(&state.pool, last)
            .await
            .map_err(failed("listing passes"))?,
        None => false,
    };
    let sight = brain::sight(&state, &caller, &items).await;
    for pass in &mut items {
        brain::only_of(&caller.tenant, &sight, pass, usize::MAX);
    }
    Ok(Page {
        items,
        next: last.filter(|_| has_more).map(|last| last.to_string()),
    })
}
