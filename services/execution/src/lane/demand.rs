//! What agents that run on nodes have to do: the numbers that replicas are scaled by.

use std::collections::BTreeMap;

use mesh_api::execution::AgentDemand;
use mesh_types::{AgentName, Tenant};

use super::Lane;
use super::memory::Held;
use crate::store::ledger::Ledger;

impl<L: Ledger> Lane<L> {
    /// Of this lane, sorted. What is paused, waits for something else, or is not the first of its session does not
    /// count as waiting: another replica would not help it.
    pub(super) fn demand(&self) -> Vec<AgentDemand> {
        let now = self.context.clock.now();
        let mut all: BTreeMap<(&Tenant, &AgentName), AgentDemand> = BTreeMap::new();
        for open in self.memory.on_nodes.iter().filter_map(|id| self.memory.open.get(id)) {
            let meta = &open.meta;
            let is_running = matches!(open.held, Held::There(_));
            let is_waiting = open.is_runnable(now)
                && self.memory.sessions.is_first(meta)
                && !self.context.pauses.holds(&meta.tenant, &meta.agent);
            if !is_running && !is_waiting {
                continue;
            }
            let demand = all.entry((&meta.tenant, &meta.agent)).or_insert_with(|| AgentDemand {
                tenant: meta.tenant.clone(),
                agent: meta.agent.clone(),
                waiting: 0,
                running: 0,
                oldest_waiting_ms: 0,
            });
            if is_running {
                demand.running += 1;
            } else {
                demand.waiting += 1;
                let since = meta.wake_at.unwrap_or(meta.created_at).max(meta.created_at);
                let waited = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
                demand.oldest_waiting_ms = demand.oldest_waiting_ms.max(waited);
            }
        }
        all.into_values().collect()
    }
}
