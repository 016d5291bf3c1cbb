//! Claims: work for this process's slots, and for nodes that ask.

use std::collections::HashMap;

use mesh_types::{AgentName, InvocationId, Tenant, Timestamp};

use super::Lane;
use super::command::{Alive, Claim, Granted};
use super::memory::{Held, Lease};
use super::plan::{BATCH_RECORDS_MAX, Batch, Then};
use crate::core::ready::Take;
use crate::core::{Holder, RunState, decide};
use crate::figures::Loss;
use crate::store::ledger::Ledger;

type Agent = (Tenant, AgentName);

/// A node as this lane knows it.
#[derive(Debug, Default)]
pub(super) struct NodeSeen {
    incarnation: u64,
    /// Its newest claim, and what it was given: a repeat gets the same.
    request_id: String,
    granted: Vec<(InvocationId, u32, Timestamp)>,
}

/// A claim that is being answered by the batch in the making.
#[derive(Debug)]
pub(super) struct Asked {
    claim: Claim,
    granted: Vec<InvocationId>,
}

impl<L: Ledger> Lane<L> {
    pub(super) fn plan_claims(&mut self, batch: &mut Batch, now: Timestamp) {
        self.memory.is_hungry = false;
        if self.memory.ready.is_empty() || self.context.draining.is_cancelled() {
            return;
        }
        let Self { memory, context, .. } = self;
        let room = BATCH_RECORDS_MAX.saturating_sub(batch.records);
        let (open, sessions) = (&memory.open, &memory.sessions);
        // The clock went back since they were queued.
        let mut early = Vec::new();
        memory.ready.take(room, |id| {
            let Some(found) = open
                .get(&id)
                .filter(|open| open.is_runnable(now) && !batch.touched.contains(&id) && sessions.is_first(&open.meta))
            else {
                early.extend(open.get(&id).and_then(|open| Some((id, open.sleeps_until(now)?))));
                return Take::Gone;
            };
            if context.pauses.holds(&found.meta.tenant, &found.meta.agent) {
                return Take::NoSlot;
            }
            let Some(slot) = context
                .slots
                .take(&found.meta.tenant, &found.meta.agent, found.concurrency())
            else {
                return Take::NoSlot;
            };
            let decision = decide::claim(&found.meta, &found.row, &context.holder, now);
            batch.push(decision, Then::Claim { slot });
            Take::Taken
        });
        early.into_iter().for_each(|(id, at)| memory.wake(id, at));
    }

    /// Answers nodes from what is runnable on them.
    pub(super) fn plan_grants(&mut self, batch: &mut Batch, now: Timestamp) {
        for claim in std::mem::take(&mut self.claims) {
            if claim.answer.is_closed() {
                // Whoever asked gave up: what it was given now it would not hear of.
                continue;
            }
            if !self.is_newest(&claim.holder) {
                // An older start of the node is dead: it gets nothing.
                let _ = claim.answer.send(Vec::new());
                continue;
            }
            if let Some(again) = self.same_again(&claim) {
                let _ = claim.answer.send(again);
                continue;
            }
            let granted = self.grant(batch, &claim, now);
            self.asked.push(Asked { claim, granted });
        }
    }

    fn grant(&mut self, batch: &mut Batch, claim: &Claim, now: Timestamp) -> Vec<InvocationId> {
        let mut granted = Vec::new();
        if self.context.draining.is_cancelled() || claim.free == 0 {
            return granted;
        }
        let Self { memory, context, .. } = self;
        let (open, sessions) = (&memory.open, &memory.sessions);
        let mut running = claim.running.clone();
        let mut early = Vec::new();
        let room = claim.free.min(BATCH_RECORDS_MAX.saturating_sub(batch.records));
        memory.placed.take(room, |id| {
            let Some(found) = open
                .get(&id)
                .filter(|open| open.is_runnable(now) && !batch.touched.contains(&id) && sessions.is_first(&open.meta))
            else {
                early.extend(open.get(&id).and_then(|open| Some((id, open.sleeps_until(now)?))));
                return Take::Gone;
            };
            let agent = (found.meta.tenant.clone(), found.meta.agent.clone());
            let slots = claim.assigned.get(&agent).copied().unwrap_or_default();
            let is_shared_out = is_shared_out(claim, &agent, &running);
            let used = running.entry(agent).or_default();
            if is_shared_out || *used >= slots || context.pauses.holds(&found.meta.tenant, &found.meta.agent) {
                return Take::NoSlot;
            }
            *used += 1;
            let decision = decide::claim(&found.meta, &found.row, &claim.holder, now);
            batch.push(decision, Then::Grant);
            granted.push(id);
            Take::Taken
        });
        early.into_iter().for_each(|(id, at)| memory.wake(id, at));
        granted
    }

    /// After the commit: whoever asked gets what was committed for it.
    pub(super) fn answer_claims(&mut self) {
        let at = self.context.clock.now();
        for Asked { claim, granted } in std::mem::take(&mut self.asked) {
            let grants: Vec<Granted> = granted
                .into_iter()
                .filter_map(|id| self.memory.open.get(&id))
                .filter(|open| matches!(&open.row.state, RunState::Running(holder) if *holder == claim.holder))
                .map(|open| Granted {
                    meta: open.meta.clone(),
                    epoch: open.row.epoch,
                    seq: open.row.seq,
                    at,
                })
                .collect();
            let seen = self.nodes.entry(claim.holder.node.clone()).or_default();
            seen.request_id = claim.request_id;
            seen.granted = grants.iter().map(|grant| (grant.meta.id, grant.epoch, at)).collect();
            let _ = claim.answer.send(grants);
        }
    }

    fn same_again(&self, claim: &Claim) -> Option<Vec<Granted>> {
        let seen = self.nodes.get(&claim.holder.node)?;
        if seen.request_id != claim.request_id {
            return None;
        }
        let still = seen.granted.iter().filter_map(|(id, epoch, at)| {
            let open = self.memory.open.get(id).filter(|open| open.row.epoch == *epoch)?;
            Some(Granted {
                meta: open.meta.clone(),
                epoch: *epoch,
                seq: open.row.seq,
                at: *at,
            })
        });
        Some(still.collect())
    }

    /// Incarnations only grow; what an older one holds is runnable again.
    fn is_newest(&mut self, holder: &Holder) -> bool {
        let seen = self.nodes.entry(holder.node.clone()).or_default();
        if seen.incarnation > holder.incarnation {
            return false;
        }
        if seen.incarnation < holder.incarnation {
            *seen = NodeSeen {
                incarnation: holder.incarnation,
                ..NodeSeen::default()
            };
            let is_older = |open: &super::memory::Open| matches!(&open.row.state, RunState::Running(of) if of.node == holder.node && of.incarnation < holder.incarnation);
            self.lose(Loss::Restart, is_older);
        }
        true
    }

    /// How many were held by it.
    fn lose(&mut self, loss: Loss, is_lost: impl Fn(&super::memory::Open) -> bool) -> usize {
        let lost: Vec<_> = self
            .memory
            .open
            .iter()
            .filter(|(_, open)| matches!(open.held, Held::There(_)) && is_lost(open))
            .map(|(id, open)| (*id, open.row.epoch))
            .collect();
        for (id, epoch) in &lost {
            self.holder_gone(*id, *epoch, loss);
        }
        lost.len()
    }

    /// Its presence has run out. It may still be there, cut off: its epoch is fenced, and if nobody claims what it held
    /// before it is heard again, it goes on with it.
    pub(super) fn node_lost(&mut self, lost: &Holder) {
        let is_its = |open: &super::memory::Open| matches!(&open.row.state, RunState::Running(of) if of.node == lost.node && of.incarnation <= lost.incarnation);
        let held = self.lose(Loss::Node, is_its);
        // A start of a node that held nothing here is lost with each new start, too.
        if held > 0 {
            tracing::warn!(node = %lost.node, incarnation = lost.incarnation, held, "a node is lost; what it held is runnable again");
        }
    }

    pub(super) fn alive(&mut self, alive: Alive) {
        let Alive {
            holder,
            held,
            asked,
            answer,
        } = alive;
        if !self.is_newest(&holder) {
            let _ = answer.send(asked.into_iter().collect());
            return;
        }
        let until = self.context.clock.monotonic() + self.context.node_lease;
        let now = self.context.clock.now();
        let (mut adopted, mut missing) = (Vec::new(), Vec::new());
        for (id, open) in &mut self.memory.open {
            if !matches!(&open.row.state, RunState::Running(of) if *of == holder) {
                continue;
            }
            let is_named = held.get(id) == Some(&open.row.epoch);
            match &mut open.held {
                Held::There(lease) if is_named => *lease = Lease { until, is_old: true },
                // It lost its lease, and nobody has claimed since.
                Held::No if is_named => {
                    open.held = Held::There(Lease { until, is_old: true });
                    adopted.push(*id);
                }
                Held::There(lease) if lease.is_old => missing.push((*id, open.row.epoch)),
                Held::There(lease) => lease.is_old = true,
                Held::No | Held::Here(_) => {}
            }
        }
        let at = now.plus(self.context.node_lease);
        adopted.into_iter().for_each(|id| self.memory.wake(id, at));
        for (id, epoch) in missing {
            tracing::warn!(invocation = %id, node = %holder.node, "its node does not hold it: the grant was lost");
            self.holder_gone(id, epoch, Loss::Grant);
        }
        let asked = held.into_iter().filter(|(id, _)| asked.contains(id));
        let _ = answer.send(self.to_stop(&holder, asked));
    }

    fn to_stop(&self, holder: &Holder, asked: impl Iterator<Item = (InvocationId, u32)>) -> Vec<InvocationId> {
        let is_wanted = |(id, epoch): &(InvocationId, u32)| {
            let open = self.memory.open.get(id);
            open.is_none_or(|open| {
                let is_its = matches!(&open.row.state, RunState::Running(of) if of == holder);
                !is_its || open.row.epoch != *epoch || open.row.cancelling
            })
        };
        let mut stop: Vec<_> = asked.filter(is_wanted).map(|(id, _)| id).collect();
        stop.sort_unstable();
        stop
    }
}

/// Whether it is somebody else's agent, and the node runs as many invocations of others as its owner lets it.
fn is_shared_out(claim: &Claim, agent: &Agent, running: &HashMap<Agent, u32>) -> bool {
    let Some((others, most)) = &claim.others else {
        return false;
    };
    let of_others = running.iter().filter(|(agent, _)| others.contains(*agent));
    others.contains(agent) && of_others.map(|(_, count)| count).sum::<u32>() >= *most
}
