//! Reads the vectors that searches keep in this process, drops what nobody uses, and shortens the log of changes.

use std::sync::Arc;
use std::time::Duration;

use mesh_runtime::PassReport;
use sqlx::PgPool;

use crate::state::State;
use crate::store::search::kept;

/// How long what is not used any more may stay beyond its time.
pub(super) const TICK: Duration = Duration::from_secs(5);
/// How often the log is shortened.
pub(super) const PRUNE_TICK: Duration = Duration::from_secs(60);

pub(super) async fn pass(state: Arc<State>) -> PassReport {
    match state.searches.keep().await {
        Ok(count) => PassReport::planned(count),
        Err(error) => PassReport::failed(error),
    }
}

pub(super) async fn prune(pool: PgPool) -> PassReport {
    match kept::prune(&pool).await {
        Ok(count) => PassReport::planned(usize::try_from(count).unwrap_or(usize::MAX)),
        Err(error) => PassReport::failed(error),
    }
}
