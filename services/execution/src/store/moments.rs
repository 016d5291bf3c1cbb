//! Records of an invocation that are no steps: few, and small, however long it is.

use mesh_api::journal::Record;
use mesh_store::IdExt;
use mesh_types::InvocationId;
use sqlx::PgConnection;

use super::body::{self, RecordRow};

/// Those with seq above `after`, in order, at most `limit`.
pub(crate) async fn moments(
    connection: &mut PgConnection,
    id: InvocationId,
    after: u32,
    limit: i64,
) -> Result<Vec<Record>, sqlx::Error> {
    let rows: Vec<RecordRow> = sqlx::query_as(
        "SELECT invocation, seq, epoch, at, body, body_hash FROM execution.record
         WHERE invocation = $1 AND seq > $2 AND kind NOT IN ('begun', 'done') ORDER BY seq LIMIT $3",
    )
    .bind(id.to_uuid())
    .bind(i32::try_from(after).unwrap_or(i32::MAX))
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    body::to_records(connection, rows).await
}
