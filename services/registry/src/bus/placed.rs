//! `placed-all`: what the reconciler places.

use std::sync::Arc;

use mesh_api::fleet::PlacedAgent;
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::{Code, Problem, Tenant};

use crate::artifact::Hash;
use crate::placed::Placed;
use crate::state::{State, failed};
use crate::store::placed::{self as store, Listed, Noted, Place};
use crate::store::versions;

pub(super) async fn all(state: Arc<State>, _: Caller, query: PageQuery) -> Result<Page<PlacedAgent>, Problem> {
    let after = query.after.as_deref().map(place).transpose()?;
    let limit = query.limit();
    let mut tx = mesh_store::every_tenant_tx(&state.pool)
        .await
        .map_err(failed("beginning a transaction"))?;
    let rows = store::list(&mut tx, after.as_ref(), i64::from(limit) + 1)
        .await
        .map_err(failed("listing what is placed"))?;
    tx.commit().await.map_err(failed("listing what is placed"))?;
    let page = Page::cut(rows, limit, |listed: &Listed| {
        format!("{}.{}", listed.place.0, listed.place.1)
    });
    let mut items = Vec::with_capacity(page.items.len());
    for listed in page.items {
        items.extend(agent(&state, listed).await?);
    }
    Ok(Page { items, next: page.next })
}

/// `None`: it turned out to declare no placement.
async fn agent(state: &State, listed: Listed) -> Result<Option<PlacedAgent>, Problem> {
    let (tenant, agent) = listed.place;
    let placed = match listed.placed {
        Noted::Placed(placed) => Some(placed),
        Noted::Unknown => declared(state, &tenant, &listed.hash).await?,
    };
    Ok(placed.map(|placed| PlacedAgent {
        tenant,
        agent,
        owner: listed.created_by.strip_prefix("user:").map(str::to_owned),
        version: listed.version,
        hash: listed.hash.to_string(),
        published_at: listed.published_at,
        placement: placed.placement,
        concurrency: placed.concurrency,
        requires: placed.requires,
    }))
}

/// As the artifact has it. One that cannot be read is no reason to place nothing else.
async fn declared(state: &State, tenant: &Tenant, hash: &Hash) -> Result<Option<Placed>, Problem> {
    let mut tx = state.begin(tenant).await?;
    let bytes = versions::artifact(&mut tx, tenant, hash)
        .await
        .map_err(failed("reading an artifact"))?;
    let spec = serde_json::from_slice(&bytes.unwrap_or_default());
    if let Err(error) = &spec {
        tracing::error!(%error, %tenant, %hash, "a published artifact cannot be read");
    }
    Ok(spec.ok().as_ref().and_then(Placed::of))
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
