//! The topic `invocation:<id>`: what the event stream of one invocation says, as pushes.

use futures::StreamExt;
use futures::stream::BoxStream;
use mesh_api::Caller;
use mesh_types::InvocationId;

use crate::feed::{Cursor, Event};
use crate::http::events::Live;
use crate::http::problem::Failure;
use crate::state::App;

pub(super) struct Follow {
    pub(super) id: InvocationId,
    /// Ends after the invocation's end.
    pub(super) events: BoxStream<'static, Result<Event, Failure>>,
}

impl Follow {
    /// After a cursor; the default one is before the beginning.
    pub(super) fn new(app: &App, caller: &Caller, id: InvocationId, after: Cursor) -> Self {
        let (app, caller) = (app.clone(), caller.clone());
        let opened = async move {
            let live = match app.streams.take(&caller.tenant) {
                Ok(share) => Live::open(app, caller, id, after, share).await,
                Err(failure) => Err(failure),
            };
            match live {
                Ok(Some(live)) => futures::stream::unfold(live, |mut live| async move {
                    let event = live.next().await?;
                    Some((Ok(event), live))
                })
                .boxed(),
                Ok(None) => futures::stream::empty().boxed(),
                Err(failure) => futures::stream::once(async move { Err(failure) }).boxed(),
            }
        };
        Self {
            id,
            events: futures::stream::once(opened).flatten().boxed(),
        }
    }
}
