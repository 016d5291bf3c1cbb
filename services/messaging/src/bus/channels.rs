//! `channel-list`, `channel-history`, and the channel that a post needs.

use std::sync::Arc;

use mesh_api::messaging::{ChannelView, History, HistoryRequest};
use mesh_api::page::LIMIT_MAX;
use mesh_api::{Caller, Page, PageQuery};
use mesh_types::event::Fact;
use mesh_types::{ChannelId, Code, Problem, Tenant};
use sqlx::PgConnection;

use crate::state::{State, failed};
use crate::store::{channels as store, messages};

pub(super) async fn list(state: Arc<State>, caller: Caller, query: PageQuery) -> Result<Page<ChannelView>, Problem> {
    let after = query.after.as_deref().map(store::Place::parse).transpose()?;
    let limit = query.limit();
    let mut tx = state.begin(&caller.tenant).await?;
    let rows = store::list(&mut tx, &caller.tenant, after.as_ref(), limit)
        .await
        .map_err(failed("listing channels"))?;
    let page = Page::cut(rows, limit, |(place, _)| place.to_string());
    Ok(Page {
        items: page.items.into_iter().map(|(_, channel)| channel).collect(),
        next: page.next,
    })
}

pub(super) async fn history(state: Arc<State>, caller: Caller, request: HistoryRequest) -> Result<History, Problem> {
    let HistoryRequest { channel, limit, before } = request;
    let tenant = &caller.tenant;
    let mut tx = state.begin(tenant).await?;
    // A channel that its first post would create is an empty one.
    if !state.config.auto_create_channels {
        check(&mut tx, tenant, &channel).await?;
    }
    let before = match before {
        None => None,
        Some(id) => {
            let position = messages::position(&mut tx, tenant, &channel, &id)
                .await
                .map_err(failed("reading a message"))?;
            Some(position.ok_or_else(|| {
                Problem::new(
                    Code::InvalidRequest,
                    format!("channel `{channel}` has no message `{id}` to read before"),
                )
                .field("before")
                .next("pass the `next` of the page before as it came")
            })?)
        }
    };
    let newest = messages::newest(&mut tx, tenant, &channel, before, limit.clamp(1, LIMIT_MAX))
        .await
        .map_err(failed("reading a channel's history"))?;
    let next = if newest.more {
        newest.items.last().map(|message| message.id.to_string())
    } else {
        None
    };
    let mut items = newest.items;
    items.reverse();
    Ok(History { items, next })
}

/// The channel exists when this returns: it did, or it is created where the configuration allows it.
pub(super) async fn require(
    state: &State,
    tx: &mut PgConnection,
    caller: &Caller,
    channel: &ChannelId,
) -> Result<(), Problem> {
    if !state.config.auto_create_channels {
        return check(tx, &caller.tenant, channel).await;
    }
    let at = state.context.clock.now();
    let created = store::ensure(tx, &caller.tenant, channel, at, &caller.actor)
        .await
        .map_err(failed("creating a channel"))?;
    if created {
        state
            .record(
                tx,
                caller,
                Fact::ChannelCreated {
                    channel: channel.clone(),
                },
            )
            .await?;
    }
    Ok(())
}

async fn check(tx: &mut PgConnection, tenant: &Tenant, channel: &ChannelId) -> Result<(), Problem> {
    if store::exists(tx, tenant, channel)
        .await
        .map_err(failed("reading a channel"))?
    {
        return Ok(());
    }
    Err(Problem::new(
        Code::ChannelNotFound,
        format!("tenant `{tenant}` has no channel `{channel}`"),
    )
    .field("channel")
    .next(
        "name an existing channel, or let messaging create channels named for the first time \
             (MESH_MESSAGING__AUTO_CREATE_CHANNELS=true)",
    ))
}
