//! Clears away what is over of people's sign-ins: tickets, attempts, sessions, keys.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::{Doorbell, PassReport, run_loop};
use mesh_types::Problem;

use crate::state::{State, failed};
use crate::store::sweep;

const EVERY: Duration = Duration::from_secs(300);
/// Rows of one table and one pass.
const ROWS: i64 = 10_000;

pub(crate) async fn run(state: Arc<State>) {
    let context = state.context.clone();
    run_loop(context, "sign-in-sweep", Doorbell::new(), EVERY, || {
        let state = Arc::clone(&state);
        async move {
            match once(&state).await {
                Ok(swept) => PassReport {
                    plan_size: usize::try_from(swept).unwrap_or(usize::MAX),
                    error: None,
                },
                Err(problem) => PassReport::failed(problem),
            }
        }
    })
    .await;
}

async fn once(state: &State) -> Result<u64, Problem> {
    let doing = "clearing away sign-ins that are over";
    let mut tx = state.begin_for_all().await?;
    let swept = sweep::sweep(&mut tx, state.context.clock.now(), ROWS)
        .await
        .map_err(failed(doing))?;
    tx.commit().await.map_err(failed(doing))?;
    Ok(swept)
}
