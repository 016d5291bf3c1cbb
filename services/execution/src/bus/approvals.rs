//! What waits for a person, in lists.

use std::sync::Arc;

use mesh_api::steering::{Approval, ApprovalListRequest};
use mesh_api::{Caller, Page};
use mesh_types::{InvocationId, Problem};

use super::reads::{bad_cursor, fitting};
use crate::state::State;
use crate::store::approvals;

/// Newest invocation first.
pub(super) async fn list(
    state: &Arc<State>,
    caller: Caller,
    request: ApprovalListRequest,
) -> Result<Page<Approval>, Problem> {
    let after = match request.page.after.as_deref() {
        Some(text) => Some(place(text).ok_or_else(|| bad_cursor(text))?),
        None => None,
    };
    let limit = request.page.limit();
    let read = async {
        let mut tx = mesh_store::tenant_tx(&state.readers, &caller.tenant).await?;
        approvals::list(&mut tx, after, limit).await
    };
    let items = read
        .await
        .map_err(|error| mesh_store::to_problem(error, "list approvals"))?;
    let fit = u32::try_from(fitting(&items)).unwrap_or(limit).min(limit);
    Ok(Page::cut(items, fit, |approval| approval.id.clone()))
}

/// `<invocation>-<step>`.
fn place(text: &str) -> Option<(InvocationId, u32)> {
    let (invocation, step) = text.rsplit_once('-')?;
    Some((invocation.parse().ok()?, step.parse().ok()?))
}
