//! A model of Postgres: the tables of `execution`, and what `store::{rows, write, load, mail, shards}` do to them in SQL.
//! Each statement happens at one instant. Knows nothing of lanes; invariants that a commit may break are checked here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use mesh_api::journal::{About, Fact, Record};
use mesh_types::InvocationId;
use uuid::Uuid;

use super::bugs::Bug;
use super::columns::{OpenColumns, open_row};
use crate::core::mail::Mail;
use crate::core::{After, Decision, EndRow, Meta};
use crate::shards::{SHARDS, ShardId};
use crate::store::feed;
use crate::store::ledger::LedgerError;
use crate::store::shards::ShardRow;
use crate::store::write::Fence;

/// A value that no column takes, as U+0000 in a text.
pub(super) const POISON: &str = "poison";

type Session = (String, String, String);

#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) shards: Vec<ShardRow>,
    pub(super) invocations: BTreeMap<InvocationId, Arc<Meta>>,
    pub(super) open: BTreeMap<InvocationId, OpenColumns>,
    pub(super) records: BTreeMap<InvocationId, Vec<Record>>,
    pub(super) ended: BTreeMap<InvocationId, EndRow>,
    pub(super) keys: BTreeMap<(String, String), (InvocationId, [u8; 32])>,
    pub(super) mail: BTreeMap<Uuid, Mail>,
    pub(super) feed: BTreeMap<(ShardId, i64), Vec<(InvocationId, u32)>>,
    pub(super) pauses: BTreeSet<(String, String)>,
    /// Open invocations of each session in order of acceptance: for the checks only.
    sessions: BTreeMap<Session, VecDeque<InvocationId>>,
    pub(super) violations: Vec<String>,
    pub(super) bug: Option<Bug>,
    pub(super) commits: u64,
}

impl Database {
    pub(super) fn new(bug: Option<Bug>) -> Self {
        let row = |id: ShardId| ShardRow {
            id: id.cast_signed(),
            owner: String::new(),
            epoch: 0,
            batch: 0,
            beat: 0,
            relayed_batch: 0,
        };
        Self {
            shards: (0..SHARDS).map(row).collect(),
            bug,
            ..Self::default()
        }
    }

    /// The fences that stand now.
    pub(super) fn standing(&self, fences: &[Fence]) -> Vec<i16> {
        let is_as_given = |fence: &&Fence| {
            let row = &self.shards[usize::from(fence.shard.cast_unsigned())];
            (row.epoch, row.batch) == (fence.epoch, fence.batch)
        };
        fences.iter().filter(is_as_given).map(|fence| fence.shard).collect()
    }

    /// The fenced statement, all at once: all of what stands, or an error and nothing.
    pub(super) fn write(
        &mut self,
        fences: &[Fence],
        decisions: &[&Decision],
        standing: &[i16],
    ) -> Result<Vec<i16>, LedgerError> {
        let mut written = Vec::new();
        for decision in decisions {
            if standing.contains(&decision.meta.shard.cast_signed()) {
                flatten(decision, &mut written);
            }
        }
        self.constraints(&written)?;
        self.commits += 1;
        for fence in fences.iter().filter(|fence| standing.contains(&fence.shard)) {
            let row = &mut self.shards[usize::from(fence.shard.cast_unsigned())];
            row.batch = fence.batch + 1;
            row.relayed_batch = row.relayed_batch.max(fence.relayed);
            let place = (fence.shard.cast_unsigned(), row.batch);
            self.feed.insert(place, feed::unpack(&fence.feed));
        }
        for decision in &written {
            self.apply(decision);
        }
        self.check_sessions(&written);
        Ok(standing.to_vec())
    }

    /// Primary keys and types: what Postgres would refuse.
    fn constraints(&self, decisions: &[&Decision]) -> Result<(), LedgerError> {
        let refused = |message: String, unique| Err(LedgerError::Refused { message, unique });
        let mut keys = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for decision in decisions {
            let meta = &decision.meta;
            if matches!(decision.after, After::Opened(_) | After::Merged(_)) {
                if self.invocations.contains_key(&meta.id) || !ids.insert(meta.id) {
                    return refused(format!("duplicate key: invocation {}", meta.id), true);
                }
                if let Some(key) = &meta.key
                    && self.bug != Some(Bug::KeysAreNotUnique)
                    && (self.keys.contains_key(&place(meta, key)) || !keys.insert(place(meta, key)))
                {
                    return refused(format!("duplicate key: key {key}"), true);
                }
                if meta
                    .input
                    .payload
                    .value()
                    .get(POISON)
                    .is_some_and(|value| value == "input")
                {
                    return refused("invalid byte sequence".into(), false);
                }
            }
            let known = self.records.get(&meta.id).map_or(0, Vec::len);
            for record in &decision.records {
                if (record.seq as usize) <= known {
                    return refused(format!("duplicate key: record {} of {}", record.seq, meta.id), true);
                }
                if is_poison(&record.fact) {
                    return refused("invalid byte sequence".into(), false);
                }
            }
            if decision.after.is_end() && self.ended.contains_key(&meta.id) {
                return refused(format!("duplicate key: ended {}", meta.id), true);
            }
        }
        Ok(())
    }

    fn apply(&mut self, decision: &Decision) {
        let meta = &decision.meta;
        let id = meta.id;
        match &decision.after {
            After::Opened(row) => {
                self.insert(meta);
                self.open.insert(id, open_row(meta, row));
                if let Some(session) = session(meta) {
                    self.sessions.entry(session).or_default().push_back(id);
                }
            }
            After::Grew { .. } => {}
            After::Changed { row } => {
                if let Some(open) = self.open.get_mut(&id) {
                    *open = open_row(meta, row);
                }
            }
            After::Ended(end) => {
                if self.bug != Some(Bug::EndKeepsOpenRow) {
                    self.open.remove(&id);
                }
                self.end(meta, end);
            }
            After::Merged(end) => {
                self.insert(meta);
                self.end(meta, end);
            }
        }
        self.post(decision);
        self.append(decision);
    }

    fn post(&mut self, decision: &Decision) {
        // Planted: written by a statement of its own, which a crash may leave out.
        let is_lost = self.bug == Some(Bug::MailOutsideTheBatch) && self.commits.is_multiple_of(5);
        for letter in decision.mail.iter().filter(|_| !is_lost) {
            self.mail.entry(letter.id).or_insert_with(|| letter.clone());
        }
        if let Some(letter) = decision.letter {
            self.mail.remove(&letter);
        }
    }

    fn append(&mut self, decision: &Decision) {
        let id = decision.id();
        let journal = self.records.entry(id).or_default();
        for record in &decision.records {
            let before = journal.last().map_or((0, 0), |last| (last.seq, last.epoch));
            if record.seq != before.0 + 1 || record.epoch < before.1 {
                let (seq, epoch) = (record.seq, record.epoch);
                let text = format!("{id}: record {seq} of epoch {epoch} after {} of {}", before.0, before.1);
                self.violations.push(text);
            }
            if matches!(record.fact, Fact::Claimed(_)) && record.epoch <= before.1 {
                let text = format!("{id}: claimed under epoch {} after {}", record.epoch, before.1);
                self.violations.push(text);
            }
            if journal.last().is_some_and(|last| matches!(last.fact, Fact::Ended(_))) {
                self.violations
                    .push(format!("{id}: record {} after its end", record.seq));
            }
            journal.push(record.clone());
        }
    }

    fn insert(&mut self, meta: &Arc<Meta>) {
        self.invocations.insert(meta.id, Arc::clone(meta));
        if let Some(key) = &meta.key {
            self.keys.insert(place(meta, key), (meta.id, meta.request_hash));
        }
    }

    fn end(&mut self, meta: &Meta, end: &EndRow) {
        self.ended.insert(meta.id, end.clone());
        if let Some(session) = session(meta)
            && let Some(queue) = self.sessions.get_mut(&session)
        {
            queue.retain(|id| *id != meta.id);
        }
    }

    /// Who is claimed is the oldest open one of its session.
    fn check_sessions(&mut self, decisions: &[&Decision]) {
        for decision in decisions {
            let is_claim = |record: &Record| matches!(record.fact, Fact::Claimed(_));
            let Some(session) = session(&decision.meta).filter(|_| decision.records.iter().any(is_claim)) else {
                continue;
            };
            let first = self.sessions.get(&session).and_then(VecDeque::front).copied();
            if first.is_some_and(|first| first != decision.id()) {
                let text = format!("session {}: {} runs before {first:?}", session.2, decision.id());
                self.violations.push(text);
            }
        }
    }

    pub(super) fn take(&mut self, seen: &ShardRow, owner: &str) -> Option<ShardRow> {
        let row = &mut self.shards[usize::from(seen.id.cast_unsigned())];
        let is_same = (&row.owner, row.epoch, row.batch, row.beat) == (&seen.owner, seen.epoch, seen.batch, seen.beat);
        if !is_same {
            return None;
        }
        row.owner = owner.to_owned();
        row.epoch += 1;
        Some(row.clone())
    }

    /// Those that are still ours.
    pub(super) fn beat(&mut self, owner: &str, held: &BTreeMap<ShardId, i64>) -> Vec<ShardId> {
        let mut ours = Vec::new();
        for (shard, epoch) in held {
            let row = &mut self.shards[usize::from(*shard)];
            if row.epoch == *epoch && row.owner == owner {
                row.beat += 1;
                ours.push(*shard);
            }
        }
        ours
    }

    pub(super) fn hand_over(&mut self, shards: &[(ShardId, i64)], to: &str) -> bool {
        let mut done = 0;
        for (shard, epoch) in shards {
            let row = &mut self.shards[usize::from(*shard)];
            if row.epoch == *epoch {
                to.clone_into(&mut row.owner);
                row.epoch += 1;
                done += 1;
            }
        }
        done == shards.len()
    }
}

fn flatten<'a>(decision: &'a Decision, into: &mut Vec<&'a Decision>) {
    into.push(decision);
    if let Some(also) = &decision.also {
        flatten(also, into);
    }
}

fn place(meta: &Meta, key: &str) -> (String, String) {
    (meta.tenant.to_string(), key.to_owned())
}

fn session(meta: &Meta) -> Option<Session> {
    let session = meta.session.clone()?;
    Some((meta.tenant.to_string(), meta.agent.to_string(), session))
}

fn is_poison(fact: &Fact) -> bool {
    let value = match fact {
        Fact::Done(done) => done.output.as_ref(),
        Fact::Signalled(signalled) => match &signalled.about {
            About::Signal { value, .. } => Some(value),
            _ => None,
        },
        _ => None,
    };
    value.is_some_and(|value| value.get(POISON).is_some())
}
