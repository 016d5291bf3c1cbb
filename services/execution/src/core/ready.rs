//! Who runs next: priority, then turns between tenants, then turns between their agents, then order of acceptance.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use mesh_types::{AgentName, InvocationId, Tenant};

/// Runnable work of one lane, in memory only: rebuilt from `open` after a takeover.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Highest priority first, as the key counts down.
    levels: BTreeMap<u8, Turns<Tenant, Turns<AgentName, VecDeque<InvocationId>>>>,
    length: usize,
}

/// A ring: whoever was served goes to its end.
#[derive(Debug)]
struct Turns<K, V> {
    ring: VecDeque<(K, V)>,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self { ring: VecDeque::new() }
    }
}

impl<K: PartialEq + Clone, V: Default> Turns<K, V> {
    fn entry(&mut self, key: &K) -> &mut V {
        let place = self.ring.iter().position(|(k, _)| k == key).unwrap_or_else(|| {
            self.ring.push_back((key.clone(), V::default()));
            self.ring.len() - 1
        });
        &mut self.ring[place].1
    }
}

const PRIORITY_MAX: u8 = 9;

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn push(&mut self, priority: u8, tenant: &Tenant, agent: &AgentName, id: InvocationId) {
        let level = PRIORITY_MAX.saturating_sub(priority);
        let queue = self.levels.entry(level).or_default().entry(tenant).entry(agent);
        queue.push_back(id);
        self.length += 1;
    }

    /// What is queued, by agent; of each priority on its own.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&Tenant, &AgentName, &VecDeque<InvocationId>)> {
        let tenants = self.levels.values().flat_map(|tenants| &tenants.ring);
        tenants.flat_map(|(tenant, agents)| agents.ring.iter().map(move |(agent, queue)| (tenant, agent, queue)))
    }

    /// Agents of which something waits.
    pub(crate) fn agents(&self) -> BTreeSet<(Tenant, AgentName)> {
        self.queues()
            .filter(|(_, _, queue)| !queue.is_empty())
            .map(|(tenant, agent, _)| (tenant.clone(), agent.clone()))
            .collect()
    }

    /// Whether something of this agent waits: a newcomer must not pass it.
    pub(crate) fn holds(&self, tenant: &Tenant, agent: &AgentName) -> bool {
        self.levels.values().any(|tenants| {
            tenants
                .ring
                .iter()
                .any(|(t, agents)| t == tenant && agents.ring.iter().any(|(a, queue)| a == agent && !queue.is_empty()))
        })
    }

    /// Takes at most `limit` that may run. `take` claims a slot for the invocation or says that its agent has none.
    pub(crate) fn take(&mut self, limit: usize, mut take: impl FnMut(InvocationId) -> Take) -> usize {
        let mut taken = 0;
        let mut gone = 0;
        let mut full: HashSet<(Tenant, AgentName)> = HashSet::new();
        for tenants in self.levels.values_mut() {
            // One turn serves each tenant once; turns go on until none can be served.
            loop {
                let mut served = false;
                for _ in 0..tenants.ring.len() {
                    if taken == limit {
                        break;
                    }
                    let Some((tenant, mut agents)) = tenants.ring.pop_front() else {
                        break;
                    };
                    match serve_one(&tenant, &mut agents, &mut full, &mut gone, &mut take) {
                        Served::One => {
                            taken += 1;
                            served = true;
                            tenants.ring.push_back((tenant, agents));
                        }
                        Served::Blocked => tenants.ring.push_back((tenant, agents)),
                        Served::Empty => {}
                    }
                }
                if !served || taken == limit {
                    break;
                }
            }
        }
        self.levels.retain(|_, tenants| !tenants.ring.is_empty());
        self.length -= taken + gone;
        taken
    }
}

/// What became of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Taken,
    /// It is no longer runnable: forget it.
    Gone,
    /// Its agent has no free slot.
    NoSlot,
}

enum Served {
    One,
    Blocked,
    Empty,
}

fn serve_one(
    tenant: &Tenant,
    agents: &mut Turns<AgentName, VecDeque<InvocationId>>,
    full: &mut HashSet<(Tenant, AgentName)>,
    gone: &mut usize,
    take: &mut impl FnMut(InvocationId) -> Take,
) -> Served {
    for _ in 0..agents.ring.len() {
        let Some((agent, mut queue)) = agents.ring.pop_front() else {
            break;
        };
        let is_full = full.contains(&(tenant.clone(), agent.clone()));
        while let Some(&id) = queue.front().filter(|_| !is_full) {
            match take(id) {
                Take::Taken => {
                    queue.pop_front();
                    if !queue.is_empty() {
                        agents.ring.push_back((agent, queue));
                    }
                    return Served::One;
                }
                Take::Gone => {
                    queue.pop_front();
                    *gone += 1;
                }
                Take::NoSlot => {
                    full.insert((tenant.clone(), agent.clone()));
                    break;
                }
            }
        }
        if !queue.is_empty() {
            agents.ring.push_back((agent, queue));
        }
    }
    if agents.ring.is_empty() {
        Served::Empty
    } else {
        Served::Blocked
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use mesh_types::Id;
    use proptest::prelude::*;

    use super::*;

    fn names(n: u8) -> (Tenant, AgentName) {
        (
            format!("t{}", n / 4).parse().unwrap(),
            format!("a{}", n % 4).parse().unwrap(),
        )
    }

    #[test]
    fn a_loud_tenant_takes_turns_with_a_quiet_one() {
        let mut ready = Ready::default();
        let (loud, quiet) = (names(0), names(4));
        for n in 0..10 {
            ready.push(5, &loud.0, &loud.1, InvocationId::from_u128(n));
        }
        ready.push(5, &quiet.0, &quiet.1, InvocationId::from_u128(100));
        ready.push(9, &quiet.0, &quiet.1, InvocationId::from_u128(101));
        let mut order = vec![];
        ready.take(4, |id| {
            order.push(id.as_u128());
            Take::Taken
        });
        assert_eq!(order, [101, 0, 100, 1], "priority first, then turns");
        assert_eq!(ready.len(), 8);
    }

    proptest! {
        /// Against a model: nothing is lost or taken twice, no agent passes its limit, order within an agent holds.
        #[test]
        fn nothing_is_lost_and_limits_hold(
            pushes in proptest::collection::vec((0..3_u8, 0..8_u8), 0..60),
            limits in proptest::collection::vec(0..5_usize, 8),
            limit in 0..70_usize,
        ) {
            let mut ready = Ready::default();
            let mut who = HashMap::new();
            for (n, (priority, agent)) in pushes.iter().enumerate() {
                let id = InvocationId::from_u128(n as u128);
                let (tenant, name) = names(*agent);
                ready.push(*priority, &tenant, &name, id);
                who.insert(id, (*priority, *agent));
            }
            let mut used = [0_usize; 8];
            let mut order = vec![];
            let count = ready.take(limit, |id| {
                let agent = usize::from(who[&id].1);
                if used[agent] == limits[agent] { return Take::NoSlot; }
                used[agent] += 1;
                order.push(id);
                Take::Taken
            });
            prop_assert_eq!(count, order.len());
            prop_assert_eq!(ready.len(), pushes.len() - count);
            let possible: usize = (0..8).map(|agent| {
                pushes.iter().filter(|(_, a)| usize::from(*a) == agent).count().min(limits[agent])
            }).sum();
            prop_assert_eq!(count, possible.min(limit));
            for pair in order.windows(2).filter(|p| who[&p[0]] == who[&p[1]]) {
                prop_assert!(pair[0] < pair[1]);
            }
            // What is left comes out later, once.
            let mut rest = vec![];
            ready.take(usize::MAX, |id| { rest.push(id); Take::Taken });
            prop_assert!(ready.is_empty());
            rest.extend(order);
            rest.sort();
            rest.dedup();
            prop_assert_eq!(rest.len(), pushes.len());
        }
    }
}
