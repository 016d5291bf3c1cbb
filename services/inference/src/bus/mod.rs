//! The endpoints of the service: one line and one file each.

mod complete;
mod embed;
mod models;
mod roads;

use std::sync::Arc;

use mesh_api::inference::{Complete, Embed, Models};
use mesh_bus::{BusError, ServiceHandle};

use crate::state::State;

pub(crate) async fn serve(state: &Arc<State>) -> Result<ServiceHandle, BusError> {
    let completing = Arc::clone(state);
    let embedding = Arc::clone(state);
    let listing = Arc::clone(state);
    let service = state
        .context
        .bus
        .service("inference", env!("CARGO_PKG_VERSION"))
        .concurrency(state.config.concurrency)
        .stream_endpoint::<Complete, _, _>(move |caller, request, sink| {
            complete::handle(Arc::clone(&completing), caller, request, sink)
        })
        .endpoint::<Embed, _, _>(move |caller, request| embed::handle(Arc::clone(&embedding), caller, request))
        .endpoint::<Models, _, _>(move |_caller, _request| models::handle(Arc::clone(&listing)));
    roads::serve(service, state).start().await
}
