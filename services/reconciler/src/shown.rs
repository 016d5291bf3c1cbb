//! KV `ASSIGNMENTS` as this process knows it, and the writes that make it what the tables say.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use mesh_bus::{Bucket, BusError, KvEntry};

use crate::core::Kept;
use crate::state::State;

/// A watch may miss changes at a reconnect: the bucket is listed at least so often.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// Keys that are written at the same time.
const WRITES_MAX: usize = 32;

/// The bucket's values, each with its revision.
#[derive(Default)]
pub(crate) struct Shown {
    values: Mutex<HashMap<String, (u64, Option<Bytes>)>>,
    /// Something came that this process did not write: all is compared again.
    is_doubtful: AtomicBool,
    listed_at: Mutex<Option<Duration>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ShowError {
    #[error("cannot read or write bucket ASSIGNMENTS: {0}")]
    Bus(#[from] BusError),
    #[error("an assignment has no JSON")]
    Json(#[from] serde_json::Error),
}

/// Follows the bucket for ever.
pub(crate) async fn watch(state: Arc<State>) {
    let mut watch = state.context.bus.kv_watch(Bucket::Assignments);
    loop {
        tokio::select! {
            () = state.context.shutdown.cancelled() => return,
            entry = watch.next() => match entry {
                Some(entry) => state.shown.note(entry),
                None => return,
            },
        }
    }
}

impl Shown {
    fn values(&self) -> MutexGuard<'_, HashMap<String, (u64, Option<Bytes>)>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, entry: KvEntry) {
        let mut values = self.values();
        let is_newer = values
            .get(&entry.key)
            .is_none_or(|(revision, _)| *revision < entry.revision);
        if is_newer {
            values.insert(entry.key, (entry.revision, entry.value));
            self.is_doubtful.store(true, Ordering::Release);
        }
    }

    async fn list(&self, state: &State) -> Result<(), BusError> {
        let now = state.context.clock.monotonic();
        let listed_at = *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if listed_at.is_some_and(|at| now.saturating_sub(at) < LIST_EVERY) {
            return Ok(());
        }
        let entries = state.context.bus.kv_list(Bucket::Assignments).await?;
        let mut values = self.values();
        // A bucket that was made anew starts its revisions anew.
        values.clear();
        values.extend(
            entries
                .into_iter()
                .map(|entry| (entry.key, (entry.revision, entry.value))),
        );
        drop(values);
        self.is_doubtful.store(true, Ordering::Release);
        *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        Ok(())
    }

    /// Everything is to be compared at the next pass, by a list.
    pub(crate) fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::Release);
        *self.listed_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Writes what differs from the tables; answers how many keys that were. Stops as soon as this process does not lead.
    pub(crate) async fn repair(
        &self,
        state: &State,
        epoch: u64,
        kept: &Kept,
        is_changed: bool,
    ) -> Result<usize, ShowError> {
        self.list(state).await?;
        let is_doubtful = self.is_doubtful.swap(false, Ordering::AcqRel);
        if !is_doubtful && !is_changed {
            return Ok(0);
        }
        let writes = self.differences(kept)?;
        let count = writes.len();
        let written = futures::stream::iter(writes.into_iter().map(Ok::<_, ShowError>))
            .try_for_each_concurrent(WRITES_MAX, |(key, value)| self.write(state, epoch, key, value))
            .await;
        if written.is_err() {
            self.doubt();
        }
        written.map(|()| count)
    }

    fn differences(&self, kept: &Kept) -> Result<Vec<(String, Option<Bytes>)>, serde_json::Error> {
        let desired = desired(kept)?;
        let values = self.values();
        let shown = |key: &String| values.get(key).and_then(|(_, value)| value.as_ref());
        let stale = values
            .iter()
            .filter(|(key, (_, value))| value.is_some() && !desired.contains_key(*key));
        let mut writes: Vec<_> = stale.map(|(key, _)| (key.clone(), None)).collect();
        let wrong = desired.iter().filter(|(key, value)| shown(key) != Some(value));
        writes.extend(wrong.map(|(key, value)| (key.clone(), Some(value.clone()))));
        Ok(writes)
    }

    async fn write(&self, state: &State, epoch: u64, key: String, value: Option<Bytes>) -> Result<(), ShowError> {
        if state.leads().is_none_or(|lead| lead.epoch != epoch) {
            return Ok(());
        }
        let bus = &state.context.bus;
        match value {
            Some(value) => {
                let revision = bus.kv_put(Bucket::Assignments, &key, value.clone()).await?;
                let mut values = self.values();
                let known = values.entry(key).or_insert((0, None));
                if known.0 < revision {
                    *known = (revision, Some(value));
                }
            }
            // Its own marker comes back by the watch.
            None => bus.kv_delete(Bucket::Assignments, &key).await?,
        }
        Ok(())
    }
}

/// The bucket as the tables want it.
fn desired(kept: &Kept) -> Result<BTreeMap<String, Bytes>, serde_json::Error> {
    let mut all = BTreeMap::new();
    for (node, assignment) in kept.assignments() {
        all.insert(format!("node.{node}"), serde_json::to_vec(&assignment)?.into());
    }
    for ((tenant, agent), serving) in kept.servings() {
        all.insert(format!("agent.{tenant}.{agent}"), serde_json::to_vec(&serving)?.into());
    }
    Ok(all)
}
