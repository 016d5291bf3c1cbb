//! KV `AGENTS`: the published version of each agent, for all to see. Postgres is the truth; a pointer is written from
//! it right after each commit, and a loop repairs what was missed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_api::registry::Pointer;
use mesh_bus::{Bucket, BusError};
use mesh_runtime::{Doorbell, run_loop};
use mesh_types::{AgentName, Tenant};
use tokio::sync::Mutex;

use crate::state::State;
use crate::store::pointers as store;

/// How long an answer waits for the pointer to be seen; the loop catches up on what takes longer.
const SHOW_TIMEOUT: Duration = Duration::from_millis(500);
/// Changes of a KV bucket can be missed at a reconnect: everything is compared at least this often.
const REPAIR_EVERY: Duration = Duration::from_secs(60);
const READ_CHUNK: i64 = 1_000;

/// Writes pointers, one at a time: two writers could leave the older value.
#[derive(Default)]
pub(crate) struct Pointers {
    writing: Mutex<()>,
    bell: Doorbell,
}

#[derive(Debug, thiserror::Error)]
enum RepairError {
    #[error("cannot read the published versions")]
    Database(#[from] sqlx::Error),
    #[error("cannot read or write bucket AGENTS: {0}")]
    Bus(#[from] BusError),
    #[error("a pointer has no JSON")]
    Json(#[from] serde_json::Error),
}

impl Pointers {
    /// Makes one pointer seen, best effort: on failure the loop is rung.
    pub(crate) async fn show(&self, state: &State, tenant: &Tenant, agent: &AgentName) {
        let shown = tokio::time::timeout(SHOW_TIMEOUT, self.write(state, tenant, agent)).await;
        let reason = match shown {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {} ms", SHOW_TIMEOUT.as_millis()),
        };
        tracing::warn!(%tenant, %agent, reason, "a pointer is not shown yet; it will be repaired");
        self.bell.ring();
    }

    /// Reads the truth and writes it, in one turn.
    async fn write(&self, state: &State, tenant: &Tenant, agent: &AgentName) -> Result<(), RepairError> {
        let _turn = self.writing.lock().await;
        let mut tx = mesh_store::tenant_tx(&state.pool, tenant).await?;
        let pointer = store::get(&mut tx, tenant, agent).await?;
        tx.commit().await?;
        let bus = &state.context.bus;
        match pointer {
            Some(pointer) => {
                bus.kv_put(
                    Bucket::Agents,
                    &key(tenant, agent),
                    Bytes::from(serde_json::to_vec(&pointer)?),
                )
                .await?;
            }
            None => bus.kv_delete(Bucket::Agents, &key(tenant, agent)).await?,
        }
        Ok(())
    }
}

/// Compares and repairs at the start, at the bell, after each reconnect and every minute, until the shutdown.
pub(crate) async fn run(state: Arc<State>) {
    let bell = state.pointers.bell.clone();
    let context = state.context.clone();
    let mut reconnects = context.bus.reconnects();
    let ringing = async {
        while reconnects.changed().await.is_ok() {
            state.pointers.bell.ring();
        }
        std::future::pending::<()>().await;
    };
    let passes = run_loop(context.clone(), "pointers", bell, REPAIR_EVERY, || {
        let state = Arc::clone(&state);
        async move {
            tokio::select! {
                repaired = repair(&state) => repaired,
                () = state.context.shutdown.cancelled() => Ok(0),
            }
        }
    });
    tokio::select! {
        () = passes => {}
        () = ringing => {}
    }
}

/// observe → plan → apply; answers how many pointers were wrong.
async fn repair(state: &State) -> Result<usize, RepairError> {
    let published = published(state).await?;
    let mut shown = BTreeMap::new();
    for entry in state.context.bus.kv_list(Bucket::Agents).await? {
        shown.extend(entry.value.map(|value| (entry.key, value)));
    }
    let wrong = plan(&published, &shown);
    for key in &wrong {
        // From the truth as it is now: a publish may have come between.
        match parse_key(key) {
            Some((tenant, agent)) => state.pointers.write(state, &tenant, &agent).await?,
            None => state.context.bus.kv_delete(Bucket::Agents, key).await?,
        }
    }
    Ok(wrong.len())
}

async fn published(state: &State) -> Result<BTreeMap<String, Bytes>, RepairError> {
    let mut all = BTreeMap::new();
    let mut after: Option<Pointer> = None;
    loop {
        let mut tx = mesh_store::every_tenant_tx(&state.pool).await?;
        let chunk = store::list(&mut tx, after.as_ref(), READ_CHUNK).await?;
        tx.commit().await?;
        for pointer in &chunk {
            all.insert(
                key(&pointer.tenant, &pointer.agent),
                Bytes::from(serde_json::to_vec(pointer)?),
            );
        }
        match chunk.into_iter().last() {
            Some(last) => after = Some(last),
            None => return Ok(all),
        }
    }
}

/// The keys whose value is missing, another or too many.
fn plan(published: &BTreeMap<String, Bytes>, shown: &BTreeMap<String, Bytes>) -> Vec<String> {
    let missing_or_other = published
        .iter()
        .filter(|(key, value)| shown.get(*key) != Some(value))
        .map(|(key, _)| key);
    let stale = shown.keys().filter(|key| !published.contains_key(*key));
    missing_or_other.chain(stale).cloned().collect()
}

fn key(tenant: &Tenant, agent: &AgentName) -> String {
    format!("{tenant}.{agent}")
}

fn parse_key(text: &str) -> Option<(Tenant, AgentName)> {
    let (tenant, agent) = text.split_once('.')?;
    let parsed = (tenant.parse().ok()?, agent.parse().ok()?);
    (key(&parsed.0, &parsed.1) == text).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointers() -> impl Strategy<Value = BTreeMap<String, Bytes>> {
        prop::collection::btree_map("[a-c]\\.[a-c]", "[xy]".prop_map(Bytes::from), 0..6)
    }

    proptest! {
        #[test]
        fn applying_a_plan_leaves_an_empty_plan(published in pointers(), mut shown in pointers()) {
            for key in plan(&published, &shown) {
                match published.get(&key) {
                    Some(value) => { shown.insert(key, value.clone()); }
                    None => { shown.remove(&key); }
                }
            }
            prop_assert_eq!(&shown, &published);
            prop_assert!(plan(&published, &shown).is_empty());
        }
    }

    #[test]
    fn only_a_key_of_ours_is_read_as_one() {
        assert!(parse_key("daarion.sofia").is_some());
        for key in ["sofia", "a.b.c", "a.", "microdao:a.b"] {
            assert!(parse_key(key).is_none(), "{key}");
        }
    }
}
