//! `placed-all`: what the reconciler places.

use std::sync::Arc;

use mesh_api::fleet::PlacedAgent;
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::{Code, Problem};

use crate::state::{State, failed};
use crate::store::placed as store;
use crate::store::placed::Place;

pub(super) async fn all(state: Arc<State>, _: Caller, query: PageQuery) -> Result<Page<PlacedAgent>, Problem> {
    let after = query.after.as_deref().map(place).transpose()?;
    let limit = query.limit();
    let mut tx = mesh_store::every_tenant_tx(&state.pool)
        .await
        .map_err(failed("beginning a transaction"))?;
    let rows = store::list(&mut tx, after.as_ref(), i64::from(limit) + 1)
        .await
        .map_err(failed("listing what is placed"))?;
    let page = Page::cut(rows, limit, |((tenant, agent), _)| format!("{tenant}.{agent}"));
    Ok(Page {
        items: page.items.into_iter().filter_map(|(_, placed)| placed).collect(),
        next: page.next,
    })
}

/// Neither name has a dot.
fn place(cursor: &str) -> Result<Place, Problem> {
    let place = cursor
        .split_once('.')
        .and_then(|(tenant, agent)| Some((tenant.parse().ok()?, agent.parse().ok()?)));
    place.ok_or_else(|| {
        Problem::new(Code::InvalidRequest, "`after` is no cursor of this list")
            .field("after")
            .next("pass the `next` of the page before as it came")
    })
}
