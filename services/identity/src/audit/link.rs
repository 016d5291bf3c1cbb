//! Chains what is not chained yet, soon after it was noted. One at a time per tenant: the row of the chain is locked.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{PassReport, run_loop};
use mesh_types::{EventId, Problem};

use super::chain::{self, Hash};
use crate::state::{State, failed};
use crate::store::audit_chain as store;

/// A bell may get lost.
const TICK: Duration = Duration::from_secs(5);
/// Facts of one transaction.
const BATCH: i64 = 500;

pub(crate) async fn run(state: Arc<State>) {
    let (context, bell) = (state.context.clone(), state.chain_bell.clone());
    run_loop(context, "audit-chain", bell, TICK, || {
        let state = Arc::clone(&state);
        async move {
            tokio::select! {
                linked = link_all(&state) => match linked {
                    Ok(linked) => PassReport { plan_size: linked, error: None },
                    Err(problem) => PassReport::failed(problem),
                },
                () = state.context.shutdown.cancelled() => PassReport::default(),
            }
        }
    })
    .await;
}

/// How many facts got their place.
pub(crate) async fn link_all(state: &State) -> Result<usize, Problem> {
    let doing = "looking for facts to chain";
    let mut tx = state.begin_for_all().await?;
    let tenants = store::unchained_tenants(&mut *tx).await.map_err(failed(doing))?;
    drop(tx);
    let mut linked = 0;
    for tenant in tenants {
        loop {
            let count = link(state, &tenant).await?;
            linked += count;
            if count == 0 {
                break;
            }
        }
    }
    Ok(linked)
}

async fn link(state: &State, tenant: &str) -> Result<usize, Problem> {
    let doing = "chaining audit facts";
    let mut tx = state.begin_for_all().await?;
    let ends = store::lock(&mut tx, tenant).await.map_err(failed(doing))?;
    let facts = store::unchained(&mut *tx, tenant, BATCH).await.map_err(failed(doing))?;
    let mut before: Hash = as_hash(&ends.hash)?;
    let mut links = Vec::with_capacity(facts.len());
    for (seq, fact) in (ends.seq + 1..).zip(&facts) {
        before = chain::hash(&before, seq, &fact.row);
        let id: EventId = fact.row.id.parse().map_err(Problem::from)?;
        links.push((id, seq, before));
    }
    store::link(&mut tx, tenant, &links).await.map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    Ok(links.len())
}

pub(crate) fn as_hash(bytes: &[u8]) -> Result<Hash, Problem> {
    bytes
        .try_into()
        .map_err(|_| Problem::new(mesh_types::Code::Internal, "a stored hash has not 32 bytes"))
}
