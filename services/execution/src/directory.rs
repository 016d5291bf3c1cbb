//! Who owns which shard, as far as this process knows: the steward writes it, everybody who routes reads it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_runtime::Doorbell;
use mesh_types::Problem;

use crate::shards::{SHARDS, ShardId};

/// Who owns a shard, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    Here,
    There(Arc<str>),
    Nobody,
}

/// Re-read from the shard table when something moved.
#[derive(Debug)]
pub(crate) struct Directory {
    owners: Mutex<Vec<Owner>>,
    /// Shards that a lane lost, with the epoch that it held: the steward lets go of them, too.
    lost: Mutex<Vec<(ShardId, i64)>>,
    /// Why nothing is owned here, where it is not for lack of time.
    refusal: Mutex<Option<Problem>>,
    pub(crate) bell: Doorbell,
}

impl Directory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            owners: Mutex::new(vec![Owner::Nobody; usize::from(SHARDS)]),
            lost: Mutex::default(),
            refusal: Mutex::default(),
            bell: Doorbell::new(),
        })
    }

    pub(crate) fn owner(&self, shard: ShardId) -> Owner {
        lock(&self.owners)
            .get(usize::from(shard))
            .cloned()
            .unwrap_or(Owner::Nobody)
    }

    /// Something is not where it was: look again soon.
    pub(crate) fn ring(&self) {
        self.bell.ring();
    }

    /// A lane lost the shard, which it held in this epoch.
    pub(crate) fn lost(&self, shard: ShardId, epoch: i64) {
        lock(&self.lost).push((shard, epoch));
        self.let_go(shard);
        self.ring();
    }

    /// Nothing of the shard is taken here any more.
    pub(crate) fn let_go(&self, shard: ShardId) {
        if let Some(owner) = lock(&self.owners).get_mut(usize::from(shard)) {
            *owner = Owner::Nobody;
        }
    }

    pub(crate) fn take_lost(&self) -> Vec<(ShardId, i64)> {
        std::mem::take(&mut *lock(&self.lost))
    }

    pub(crate) fn set(&self, owners: Vec<Owner>) {
        *lock(&self.owners) = owners;
    }

    /// Why a shard without an owner stays without one; `None`: it will have one soon.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        lock(&self.refusal).clone()
    }

    /// Answers what it was before.
    pub(crate) fn refuse(&self, refusal: Option<Problem>) -> Option<Problem> {
        std::mem::replace(&mut *lock(&self.refusal), refusal)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
