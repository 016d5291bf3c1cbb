//! `message-post`: idempotent by (tenant, channel, id).

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::messaging::{Message, PostRequest};
use mesh_runtime::MetricName;
use mesh_types::Problem;
use mesh_types::event::Fact;

use super::channels;
use crate::messages::{Draft, author_kind, conflict};
use crate::state::{State, failed};
use crate::store::messages as store;

pub(super) async fn post(state: Arc<State>, caller: Caller, request: PostRequest) -> Result<Message, Problem> {
    let draft = Draft::new(request, state.mint(), state.context.clock.now())?;
    let Message {
        id,
        channel_id: channel,
        author,
        ..
    } = &draft.message;
    let mut tx = state.begin(&caller.tenant).await?;
    channels::require(&state, &mut tx, &caller, channel).await?;
    if !store::insert(&mut tx, &caller.tenant, &draft)
        .await
        .map_err(failed("storing a message"))?
    {
        let stored = store::get(&mut tx, &caller.tenant, channel, id)
            .await
            .map_err(failed("reading a message"))?;
        return stored
            .filter(|stored| draft.is(stored))
            .ok_or_else(|| conflict(channel, id));
    }
    let fact = Fact::MessagePosted {
        channel: channel.clone(),
        message: id.clone(),
    };
    state.record(&mut tx, &caller, fact).await?;
    state.commit(tx).await?;
    state
        .context
        .metrics
        .counter(MetricName::MessagesPosted)
        .add(1, &[("author", author_kind(author.kind))]);
    Ok(draft.message)
}
