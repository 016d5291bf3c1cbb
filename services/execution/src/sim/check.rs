//! The rules, as far as they show at the end or between two batches. Those of single commits are in `database`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mesh_api::journal::{Fact, Outcome, StepKind, Usage};
use mesh_types::InvocationId;

use super::database::Database;
use super::world::Sim;
use crate::core::OpenRow;
use crate::lane::command::{Command, Look};
use crate::lane::seen::Seen;

/// Each lane, between two of its batches: what it holds is what a reload would find.
pub(super) async fn memory(sim: Arc<Sim>) {
    loop {
        sim.pause(300, 700).await;
        let processes: Vec<_> = sim.processes().values().cloned().collect();
        for process in processes {
            for lane in &process.lanes {
                let (sim, name) = (Arc::clone(&sim), Arc::clone(&process.name));
                let look = move |seen: Seen| compare(&sim, &name, &seen);
                let _ = lane.send(Command::Look(Look(Box::new(look))));
            }
        }
    }
}

/// Runs within the lane: nothing is in flight.
fn compare(sim: &Sim, name: &str, seen: &Seen) {
    let database = sim.database();
    let row = &database.shards[usize::from(seen.shard)];
    if row.epoch != seen.epoch {
        // Lost, and not noticed yet.
        return;
    }
    let stored: BTreeMap<InvocationId, OpenRow> = database
        .load(seen.shard)
        .rows
        .into_iter()
        .map(|loaded| (loaded.meta.id, loaded.row))
        .collect();
    let is_batch = row.batch == seen.batch;
    let held: BTreeMap<InvocationId, OpenRow> = seen.rows.iter().cloned().collect();
    drop(database);
    if !is_batch {
        // One that the lane gave up, committed late, cannot be: its shard would be forgotten.
        sim.violation(format!(
            "{name}: shard {} is at another batch than in memory",
            seen.shard
        ));
    }
    if stored != held {
        let differs = |(id, row): &(&InvocationId, &OpenRow)| held.get(*id) != Some(*row);
        let one = stored.iter().find(differs);
        let held_of = one.and_then(|(id, _)| held.get(id));
        let more = held.keys().find(|id| !stored.contains_key(id));
        sim.violation(format!(
            "{name}: memory of shard {} is not what is committed: {one:?} is held as {held_of:?}; only held: {more:?}",
            seen.shard
        ));
    }
}

/// Whether nothing is left to do.
pub(super) fn is_done(sim: &Sim) -> bool {
    let is_drained = sim.inbox().messages.iter().all(|message| message.is_acked);
    let database = sim.database();
    is_drained && database.open.is_empty() && database.mail.is_empty()
}

/// What is left, for people.
pub(super) fn leftovers(sim: &Sim) -> String {
    let unacked = sim.inbox().messages.iter().filter(|message| !message.is_acked).count();
    let database = sim.database();
    let open: Vec<_> = database
        .open
        .iter()
        .take(3)
        .map(|(id, open)| {
            let facts = database.records.get(id).map_or(&[][..], Vec::as_slice).iter().rev();
            let kinds: Vec<_> = facts
                .take(6)
                .map(|record| (record.epoch, crate::store::rows::kind_of(&record.fact)))
                .collect();
            let agent = database
                .invocations
                .get(id)
                .map(|meta| (meta.shard, meta.agent.to_string()));
            format!("{id} {agent:?} {open:?} last {kinds:?}")
        })
        .collect();
    let mail = database.mail.values().next();
    format!(
        "{} open {open:?}, {} letters {mail:?}, {unacked} messages",
        database.open.len(),
        database.mail.len()
    )
}

pub(super) fn at_the_end(sim: &Sim) {
    ends(sim);
    feed(sim);
    intake(sim);
    let broken = sim.ledger().broken();
    broken.into_iter().for_each(|text| sim.violation(text));
}

/// Each accepted one has one end, and its journal says the same.
fn ends(sim: &Sim) {
    let database = sim.database();
    let mut broken = Vec::new();
    for id in database.invocations.keys() {
        let journal = database.records.get(id).map_or(&[][..], Vec::as_slice);
        let ends = journal
            .iter()
            .filter(|record| matches!(record.fact, Fact::Ended(_)))
            .count();
        let is_ended = database.ended.contains_key(id);
        if ends != usize::from(is_ended) {
            broken.push(format!("{id}: its journal has {ends} ends"));
        }
        if !is_ended {
            broken.push(format!("{id}: accepted, and never ended"));
        }
        if database
            .ended
            .get(id)
            .is_some_and(|end| end.reason.as_deref() == Some("diverged"))
        {
            broken.push(format!("{id}: diverged from its own journal"));
        }
        if database.open.contains_key(id) && is_ended {
            broken.push(format!("{id}: open and ended"));
        }
        broken.extend(steps(*id, journal));
        broken.extend(usage(&database, *id));
    }
    let mut keys: BTreeMap<&str, InvocationId> = BTreeMap::new();
    for meta in database.invocations.values() {
        if let Some(key) = &meta.key
            && let Some(other) = keys.insert(key, meta.id)
        {
            broken.push(format!("{key}: {} and {other} have one key", meta.id));
        }
    }
    drop(database);
    for (id, is_known) in sim.promised(|id| sim.database().invocations.contains_key(&id)) {
        if !is_known {
            broken.push(format!("{id}: answered, and not there"));
        }
    }
    broken.into_iter().for_each(|text| sim.violation(text));
}

/// No step is recorded twice, and no signal is used twice.
fn steps(id: InvocationId, journal: &[mesh_api::journal::Record]) -> Option<String> {
    let (mut done, mut used) = (BTreeSet::new(), BTreeSet::new());
    for record in journal {
        let Fact::Done(fact) = &record.fact else { continue };
        if !done.insert(fact.step) {
            return Some(format!("{id}: step {} is recorded twice", fact.step));
        }
        let key = fact.output.as_ref().and_then(|output| output["key"].as_str());
        if let Some(key) = key.filter(|_| fact.kind == StepKind::Signal)
            && !used.insert(key)
        {
            return Some(format!("{id}: the signal {key} is used twice"));
        }
    }
    None
}

/// What was paid is what the recorded steps cost.
fn usage(database: &Database, id: InvocationId) -> Option<String> {
    let ended = database
        .ended
        .get(&id)
        .filter(|ended| ended.outcome == Outcome::Completed)?;
    let meta = database.invocations.get(&id).filter(|meta| meta.fork().is_none())?;
    let done = database
        .records
        .get(&id)?
        .iter()
        .filter_map(|record| match &record.fact {
            Fact::Done(done) => Some(done.usage),
            _ => None,
        });
    let paid = done.fold(Usage::default(), Usage::plus);
    let is_same = (paid.input_tokens, paid.output_tokens) == (ended.usage.input_tokens, ended.usage.output_tokens);
    (!is_same).then(|| format!("{}: its steps cost {paid:?}, its end says {:?}", meta.id, ended.usage))
}

/// The feed names every record once.
fn feed(sim: &Sim) {
    let database = sim.database();
    let mut fed: Vec<_> = database.feed.values().flatten().copied().collect();
    fed.sort_unstable();
    let records = database.records.iter();
    let stored: Vec<_> = records
        .flat_map(|(id, all)| all.iter().map(|record| (*id, record.seq)))
        .collect();
    let is_same = fed == stored;
    drop(database);
    if !is_same {
        sim.violation("the feed does not name every record once");
    }
}

/// Every message became an invocation, or a dead letter.
fn intake(sim: &Sim) {
    let messages = sim.inbox().messages.clone();
    let database = sim.database();
    let mut broken = Vec::new();
    for message in messages.iter().filter(|message| !message.is_buried) {
        let id = crate::intake::derive(message.published_ns, message.sequence);
        let by_key = message.request.idempotency_key.as_ref().is_some_and(|key| {
            let place = (mesh_types::Tenant::default().to_string(), key.clone());
            database.keys.contains_key(&place)
        });
        if !by_key && !database.invocations.contains_key(&id) {
            broken.push(format!(
                "message {}: acked, and neither accepted nor a dead letter",
                message.sequence
            ));
        }
    }
    drop(database);
    broken.into_iter().for_each(|text| sim.violation(text));
}

/// Promises of one run: ids that clients were answered.
#[derive(Debug, Default)]
pub(super) struct Promises {
    pub(super) ids: BTreeSet<InvocationId>,
    pub(super) by_key: BTreeMap<String, InvocationId>,
}

impl Sim {
    /// A client was answered this id, for this key.
    pub(super) fn promise(&self, key: Option<&str>, id: InvocationId) {
        let other = {
            let mut promises = self.promises();
            promises.ids.insert(id);
            key.map(|key| *promises.by_key.entry(key.to_owned()).or_insert(id))
        };
        if other.is_some_and(|other| other != id) {
            self.violation(format!("{key:?} is answered with {id} and with {other:?}"));
        }
    }

    fn promised(&self, is_known: impl Fn(InvocationId) -> bool) -> Vec<(InvocationId, bool)> {
        let ids: Vec<_> = self.promises().ids.iter().copied().collect();
        ids.into_iter().map(|id| (id, is_known(id))).collect()
    }
}
