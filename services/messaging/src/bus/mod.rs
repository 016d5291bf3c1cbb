//! Everything that `messaging` answers, as one table.

mod channels;
mod messages;
mod roads;

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::messaging::{ChannelHistory, ChannelList, MessagePost};
use mesh_bus::ServiceBuilder;

use crate::state::State;

pub(crate) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let service = service
        .endpoint::<ChannelList, _, _>(with(state, channels::list))
        .endpoint::<ChannelHistory, _, _>(with(state, channels::history))
        .endpoint::<MessagePost, _, _>(with(state, messages::post));
    roads::serve(service, state)
}

fn with<Q, H, F>(state: &Arc<State>, handler: H) -> impl Fn(Caller, Q) -> F + Clone + Send + Sync + 'static
where
    H: Fn(Arc<State>, Caller, Q) -> F + Clone + Send + Sync + 'static,
{
    let state = Arc::clone(state);
    move |caller, request| handler(Arc::clone(&state), caller, request)
}
