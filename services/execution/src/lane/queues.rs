//! What waits in a lane, for whoever watches: by agent, with the time since when the longest waiting does.

use mesh_types::{AgentName, InvocationId, Tenant, Timestamp};

use super::Lane;
use crate::store::ledger::Ledger;

/// Entries that are looked at one by one; of what is beyond, each counts. Some queued ones have ended meanwhile.
const LOOKED_AT_MAX: usize = 4_096;

/// Runnable invocations of one agent without a slot. What is paused by its agent, its tenant or as a whole waits, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) tenant: Tenant,
    pub(crate) agent: AgentName,
    pub(crate) waiting: u64,
    /// When the one of them that waits longest became runnable.
    pub(crate) since: Option<Timestamp>,
}

impl<L: Ledger> Lane<L> {
    pub(super) fn queues(&self) -> Vec<Queue> {
        let now = self.context.clock.now();
        let mut left = LOOKED_AT_MAX;
        let queues = self.memory.ready.queues().chain(self.memory.placed.queues());
        let queues = queues.map(|(tenant, agent, ids)| {
            let looked_at = left.min(ids.len());
            left -= looked_at;
            let runnable = ids
                .iter()
                .take(looked_at)
                .filter_map(|id| self.runnable_since(*id, now));
            let (count, since) = runnable.fold((0, None), |(count, first), since| {
                (
                    count + 1,
                    Some(first.map_or(since, |first: Timestamp| first.min(since))),
                )
            });
            Queue {
                tenant: tenant.clone(),
                agent: agent.clone(),
                waiting: count + (ids.len() - looked_at) as u64,
                since,
            }
        });
        queues.filter(|queue| queue.waiting > 0).collect()
    }

    fn runnable_since(&self, id: InvocationId, now: Timestamp) -> Option<Timestamp> {
        let open = self.memory.open.get(&id).filter(|open| open.is_runnable(now))?;
        Some(open.ready_at.unwrap_or(now))
    }
}
