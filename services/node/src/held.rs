//! What the node holds: from the grant until its worker has let go, however that ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mesh_api::node::{HeldWork, Ticket};
use mesh_types::{AgentName, InvocationId, Tenant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lease::Lease;

/// One grant.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) ticket: Ticket,
    pub(crate) agent: AgentName,
    /// Of its agent, once its work is read.
    pub(crate) version: OnceLock<u32>,
    pub(crate) lease: Lease,
    /// Stops its worker at once.
    pub(crate) cancel: CancellationToken,
}

impl Held {
    pub(crate) fn new(ticket: Ticket, agent: AgentName, sent: Duration, lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            ticket,
            agent,
            version: OnceLock::new(),
            lease: Lease::new(sent, lease),
            cancel: CancellationToken::new(),
        })
    }
}

/// What is held, as a replica's report counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningWork {
    pub(crate) tenant: Tenant,
    pub(crate) agent: AgentName,
    /// `None` until it is known.
    pub(crate) version: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Holdings {
    all: Mutex<BTreeMap<InvocationId, Arc<Held>>>,
    count: watch::Sender<usize>,
}

impl Default for Holdings {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }
}

impl Holdings {
    /// `false`: it is held already, and runs. A grant of a later epoch stops the worker of an earlier one.
    pub(crate) fn add(&self, held: &Arc<Held>) -> bool {
        let mut all = self.all();
        let id = held.ticket.invocation;
        if let Some(known) = all.get(&id) {
            if known.ticket.epoch >= held.ticket.epoch {
                return false;
            }
            known.cancel.cancel();
        }
        all.insert(id, Arc::clone(held));
        self.count.send_replace(all.len());
        true
    }

    /// Its worker has let go.
    pub(crate) fn remove(&self, held: &Held) {
        let mut all = self.all();
        let id = held.ticket.invocation;
        if all
            .get(&id)
            .is_some_and(|known| known.ticket.epoch == held.ticket.epoch)
        {
            all.remove(&id);
        }
        self.count.send_replace(all.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }

    pub(crate) fn named(&self) -> Vec<HeldWork> {
        let all = self.all();
        let named = all.values().map(|held| HeldWork {
            invocation: held.ticket.invocation,
            shard: held.ticket.shard,
            epoch: held.ticket.epoch,
        });
        named.collect()
    }

    pub(crate) fn work(&self) -> Vec<RunningWork> {
        let all = self.all();
        let work = all.values().map(|held| RunningWork {
            tenant: held.ticket.tenant.clone(),
            agent: held.agent.clone(),
            version: held.version.get().copied(),
        });
        work.collect()
    }

    /// How many of each agent.
    pub(crate) fn running(&self) -> Vec<(Tenant, AgentName, u32)> {
        let mut counts: HashMap<(Tenant, AgentName), u32> = HashMap::new();
        for held in self.all().values() {
            *counts
                .entry((held.ticket.tenant.clone(), held.agent.clone()))
                .or_default() += 1;
        }
        counts
            .into_iter()
            .map(|((tenant, agent), count)| (tenant, agent, count))
            .collect()
    }

    /// The owners have answered a request that named these and was sent then.
    pub(crate) fn renew(&self, named: &[HeldWork], but: &[InvocationId], sent: Duration, lease: Duration) {
        let all = self.all();
        for one in named.iter().filter(|one| !but.contains(&one.invocation)) {
            if let Some(held) = all.get(&one.invocation).filter(|held| held.ticket.epoch == one.epoch) {
                held.lease.renew(sent, lease);
            }
        }
    }

    /// Their owner says so.
    pub(crate) fn stop(&self, named: &[HeldWork], stop: &[InvocationId]) {
        let all = self.all();
        for one in named.iter().filter(|one| stop.contains(&one.invocation)) {
            if let Some(held) = all.get(&one.invocation).filter(|held| held.ticket.epoch == one.epoch) {
                tracing::info!(invocation = %one.invocation, epoch = one.epoch, "its owner stops it");
                held.cancel.cancel();
            }
        }
    }

    pub(crate) fn stop_all(&self) {
        self.all().values().for_each(|held| held.cancel.cancel());
    }

    /// Whether a lease is too short for an effect to start.
    pub(crate) fn any_short(&self, now: Duration) -> bool {
        self.all().values().any(|held| !held.lease.allows(now))
    }

    /// Waits until nothing is held.
    pub(crate) async fn none(&self) {
        // The sender lives as long as `self`.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<InvocationId, Arc<Held>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;

    use super::*;

    fn held(epoch: u32) -> Arc<Held> {
        let ticket = Ticket {
            tenant: Tenant::default(),
            agent: "a".parse().unwrap(),
            invocation: InvocationId::from_u128(1),
            shard: 0,
            epoch,
            issued_at: mesh_types::Timestamp::EPOCH,
            signature: String::new(),
        };
        Held::new(ticket, "a".parse().unwrap(), Duration::ZERO, Duration::from_secs(15))
    }

    #[tokio::test]
    async fn a_later_epoch_stops_the_earlier_worker_whose_end_takes_nothing_away() {
        let holdings = Holdings::default();
        let (first, second) = (held(1), held(2));
        assert!(holdings.add(&first) && !holdings.add(&held(1)));
        assert!(holdings.add(&second) && first.cancel.is_cancelled());
        holdings.remove(&first);
        assert_eq!(holdings.len(), 1);
        let named = holdings.named();
        holdings.stop(&named, &[first.ticket.invocation]);
        assert!(second.cancel.is_cancelled());
        holdings.remove(&second);
        tokio::time::timeout(Duration::from_secs(5), holdings.none())
            .await
            .unwrap();
    }
}
