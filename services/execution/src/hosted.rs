//! Hosted workers: slots, and the agent loop as a task of this process. A node's worker does the same over NATS.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use mesh_types::{AgentName, Tenant};
use tokio::sync::mpsc;

use crate::lane::command::Command;

/// Slots of this process: per agent its `limits.concurrency`, and a bound over all.
#[derive(Debug)]
pub(crate) struct Slots {
    used: Mutex<Used>,
    max: u32,
    /// Somebody was refused since the last ring.
    hungry: AtomicBool,
    lanes: OnceLock<Vec<mpsc::UnboundedSender<Command>>>,
    total: AtomicU32,
}

#[derive(Debug, Default)]
struct Used {
    total: u32,
    agents: HashMap<(Tenant, AgentName), u32>,
}

/// One running invocation's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    agent: (Tenant, AgentName),
}

impl Slots {
    pub(crate) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            used: Mutex::default(),
            max,
            hungry: AtomicBool::new(false),
            lanes: OnceLock::new(),
            total: AtomicU32::new(0),
        })
    }

    /// Who is rung when a slot is given back and somebody waits for one.
    pub(crate) fn ring_lanes(&self, lanes: Vec<mpsc::UnboundedSender<Command>>) {
        // Set once at start; a second call would be a bug that changes nothing.
        let _ = self.lanes.set(lanes);
    }

    pub(crate) fn take(self: &Arc<Self>, tenant: &Tenant, agent: &AgentName, limit: u32) -> Option<Slot> {
        let agent = (tenant.clone(), agent.clone());
        let mut used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_agent = used.agents.get(&agent).copied().unwrap_or(0);
        if used.total >= self.max || of_agent >= limit.max(1) {
            // Under the lock: whoever gives a slot back after this sees it.
            self.hungry.store(true, Ordering::Release);
            return None;
        }
        used.total += 1;
        self.total.store(used.total, Ordering::Relaxed);
        used.agents.insert(agent.clone(), of_agent + 1);
        drop(used);
        Some(Slot {
            slots: Arc::clone(self),
            agent,
        })
    }

    pub(crate) fn in_use(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut used = self
            .slots
            .used
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        used.total = used.total.saturating_sub(1);
        self.slots.total.store(used.total, Ordering::Relaxed);
        if let Some(count) = used.agents.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                used.agents.remove(&self.agent);
            }
        }
        drop(used);
        if self.slots.hungry.swap(false, Ordering::AcqRel) {
            for lane in self.slots.lanes.get().into_iter().flatten() {
                // A lane that is gone needs no ring.
                let _ = lane.send(Command::Ring);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_back_rings_who_waits() {
        let slots = Slots::new(2);
        let (sender, mut lane) = mpsc::unbounded_channel();
        slots.ring_lanes(vec![sender]);
        let (tenant, agent): (Tenant, AgentName) = (Tenant::default(), "a".parse().unwrap());
        let other: AgentName = "b".parse().unwrap();
        let first = slots.take(&tenant, &agent, 1).unwrap();
        assert!(slots.take(&tenant, &agent, 1).is_none(), "the agent's limit");
        let second = slots.take(&tenant, &other, 5).unwrap();
        assert!(slots.take(&tenant, &other, 5).is_none(), "the process's bound");
        drop(first);
        assert!(matches!(lane.try_recv(), Ok(Command::Ring)));
        drop(second);
        assert!(lane.try_recv().is_err(), "nobody waits");
        assert_eq!(slots.in_use(), 0);
    }
}
