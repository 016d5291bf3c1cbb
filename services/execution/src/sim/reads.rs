//! What lanes and postmen read from the model of Postgres, as `store::{load, mail}` do.

use mesh_api::journal::{Fact, Record};
use mesh_types::InvocationId;

use super::bugs::Bug;
use super::database::Database;
use crate::core::append::Child;
use crate::core::mail::Mail;
use crate::core::{Meta, RunState};
use crate::shards::ShardId;
use crate::store::load::{Known, Loaded, LoadedRow};

impl Database {
    pub(super) fn known(&self, keys: &[(String, String)], ids: &[InvocationId]) -> Vec<Known> {
        if self.bug == Some(Bug::KeysAreNotUnique) {
            return Vec::new();
        }
        let by_key = keys.iter().filter_map(|place| {
            let (id, hash) = self.keys.get(place)?;
            Some(Known {
                id: *id,
                tenant: place.0.clone(),
                key: Some(place.1.clone()),
                request_hash: hash.to_vec(),
            })
        });
        let by_id = ids.iter().filter_map(|id| {
            let meta = self.invocations.get(id)?;
            Some(Known {
                id: *id,
                tenant: meta.tenant.to_string(),
                key: None,
                request_hash: meta.request_hash.to_vec(),
            })
        });
        by_key.chain(by_id).collect()
    }

    pub(super) fn journal(&self, id: InvocationId, after: u32) -> Vec<Record> {
        let journal = self.records.get(&id).map_or(&[][..], Vec::as_slice);
        journal.iter().filter(|record| record.seq > after).cloned().collect()
    }

    pub(super) fn load(&self, shard: ShardId) -> Loaded {
        let mut rows: Vec<LoadedRow> = self.rows(shard).collect();
        rows.sort_by_key(|loaded| (loaded.row.session_order, loaded.meta.id));
        Loaded {
            rows,
            children: self.children(shard),
        }
    }

    fn rows(&self, shard: ShardId) -> impl Iterator<Item = LoadedRow> {
        self.open.iter().filter_map(move |(id, columns)| {
            let meta = self.invocations.get(id).filter(|meta| meta.shard == shard)?;
            let journal = self.records.get(id)?;
            let row = columns.row(journal);
            let is_settled = journal
                .last()
                .is_some_and(|record| matches!(record.fact, Fact::Waiting(_)));
            let meta = Meta {
                concurrency: 0,
                wake_at: columns.wake_at.filter(|_| columns.waits_for.is_none()),
                ..Meta::clone(meta)
            };
            Some(LoadedRow {
                is_woken: matches!(row.state, RunState::Waiting(_)) && !is_settled,
                meta,
                row,
            })
        })
    }

    fn children(&self, shard: ShardId) -> Vec<(InvocationId, Child)> {
        let parent_here = |id: &InvocationId| {
            self.open.contains_key(id) && self.invocations.get(id).is_some_and(|meta| meta.shard == shard)
        };
        let open = self.open.keys().filter_map(|id| {
            let meta = self.invocations.get(id)?;
            let parent = meta.parent().filter(|parent| parent_here(&parent.invocation))?;
            let child = Child {
                step: parent.step,
                id: *id,
                shard: meta.shard,
            };
            Some((parent.invocation, child))
        });
        let letters = self.mail.values().filter(|letter| letter.body.kind() == "child");
        let coming = letters.filter(|letter| parent_here(&letter.sender)).map(|letter| {
            let child = Child {
                step: 0,
                id: letter.recipient,
                shard: letter.shard,
            };
            (letter.sender, child)
        });
        open.chain(coming).collect()
    }

    /// The oldest letters of those shards.
    pub(super) fn letters(&self, shards: &[ShardId], limit: usize) -> Vec<Mail> {
        let of_them = self.mail.values().filter(|letter| shards.contains(&letter.shard));
        let read = |letter: &Mail| Mail {
            read_in: self.shards[usize::from(letter.shard)].epoch,
            ..letter.clone()
        };
        of_them.take(limit).map(read).collect()
    }
}
