//! Everything that `registry` answers, as one table.

mod agents;
mod nodes;
mod placed;
mod resolve;
mod roads;
mod tenants;
mod versions;

use std::sync::Arc;

use mesh_api::Caller;
use mesh_api::fleet::{
    NodeAll, NodeConfigure, NodeDrain, NodeForget, NodeGet, NodeList, NodeRegister, NodeReportedMode, PlacedAll,
};
use mesh_api::registry::{
    AgentCreate, AgentDelete, AgentGet, AgentList, AgentPublish, AgentResolve, AgentRollback, AgentUpdate,
    AgentVersions, ArtifactGet, TenantEnsure, TenantList,
};
use mesh_bus::ServiceBuilder;

use crate::state::State;

/// Bytes of one reply at which a list is cut: half of what the server carries in a message.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Rows read at once while a list is filled, so that a page of large objects is not read in vain.
const CHUNK: u32 = 32;

pub(crate) fn serve(service: ServiceBuilder, state: &Arc<State>) -> ServiceBuilder {
    let service = service
        .endpoint::<TenantEnsure, _, _>(with(state, tenants::ensure))
        .endpoint::<TenantList, _, _>(with(state, tenants::list))
        .endpoint::<AgentCreate, _, _>(with(state, agents::create))
        .endpoint::<AgentGet, _, _>(with(state, agents::get))
        .endpoint::<AgentList, _, _>(with(state, agents::list))
        .endpoint::<AgentUpdate, _, _>(with(state, agents::update))
        .endpoint::<AgentDelete, _, _>(with(state, agents::delete))
        .endpoint::<AgentPublish, _, _>(with(state, versions::publish))
        .endpoint::<AgentVersions, _, _>(with(state, versions::list))
        .endpoint::<AgentRollback, _, _>(with(state, versions::rollback))
        .endpoint::<AgentResolve, _, _>(with(state, resolve::agent))
        .endpoint::<ArtifactGet, _, _>(with(state, resolve::artifact))
        .endpoint::<NodeRegister, _, _>(with(state, nodes::register))
        .endpoint::<NodeConfigure, _, _>(with(state, nodes::configure))
        .endpoint::<NodeReportedMode, _, _>(with(state, nodes::reported_mode))
        .endpoint::<NodeGet, _, _>(with(state, nodes::get))
        .endpoint::<NodeList, _, _>(with(state, nodes::list))
        .endpoint::<NodeAll, _, _>(with(state, nodes::all))
        .endpoint::<NodeDrain, _, _>(with(state, nodes::drain))
        .endpoint::<NodeForget, _, _>(with(state, nodes::forget))
        .endpoint::<PlacedAll, _, _>(with(state, placed::all));
    roads::serve(service, state)
}

fn with<Q, H, F>(state: &Arc<State>, handler: H) -> impl Fn(Caller, Q) -> F + Clone + Send + Sync + 'static
where
    H: Fn(Arc<State>, Caller, Q) -> F + Clone + Send + Sync + 'static,
{
    let state = Arc::clone(state);
    move |caller, request| handler(Arc::clone(&state), caller, request)
}

/// How many rows to read next for a page of `limit`: one more than it has says whether there are more pages.
fn chunk(limit: u32, have: usize) -> i64 {
    let wanted = (limit as usize + 1).saturating_sub(have);
    i64::try_from(wanted).unwrap_or(i64::MAX).min(i64::from(CHUNK))
}

/// How many of these sizes in bytes make a page: at most `limit`, at least one, within one reply.
fn fitting(sizes: impl Iterator<Item = usize>, limit: u32) -> u32 {
    let mut bytes = 0;
    let fit = sizes.take_while(|size| {
        let is_first = bytes == 0;
        bytes += size;
        is_first || bytes <= REPLY_BYTES_MAX
    });
    u32::try_from(fit.count()).unwrap_or(limit).clamp(1, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_into_one_reply() {
        assert_eq!(fitting([10; 5].into_iter(), 3), 3);
        assert_eq!(fitting([10; 2].into_iter(), 3), 2);
        assert_eq!(fitting([REPLY_BYTES_MAX; 5].into_iter(), 3), 1);
        assert_eq!(fitting([REPLY_BYTES_MAX / 2; 5].into_iter(), 50), 2);
        assert_eq!(fitting([REPLY_BYTES_MAX + 1, 1].into_iter(), 50), 1);
    }

    #[test]
    fn a_chunk_never_reads_far_past_the_page() {
        assert_eq!(chunk(50, 0), 32);
        assert_eq!(chunk(50, 32), 19);
        assert_eq!(chunk(1, 0), 2);
    }
}
