//! Memories taken away for good: their rows with all that hangs on them go, their ids stay taken.

use mesh_store::IdExt;
use mesh_types::{MemoryId, Tenant, Timestamp};
use sqlx::PgConnection;
use uuid::Uuid;

/// A memory that is gone, and whose it was.
pub(crate) type Gone = (MemoryId, String);

const WHOLE: &str = "WITH RECURSIVE old AS (
        SELECT coalesce((SELECT a.memory FROM memory.alias AS a WHERE a.tenant = $1 AND a.id = $2), $2) AS id
        UNION SELECT m.id FROM memory.memory AS m JOIN old ON m.superseded_by = old.id WHERE m.tenant = $1
    ), made AS (
        SELECT id FROM old
        UNION SELECT d.memory FROM memory.derived AS d JOIN made ON d.source = made.id WHERE d.tenant = $1
    )
    SELECT m.id FROM made JOIN memory.memory AS m ON m.tenant = $1 AND m.id = made.id ORDER BY m.id FOR UPDATE OF m";

/// The memory that `id` leads to, with those it replaced and those made of any of them; locked.
pub(crate) async fn whole(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<Vec<MemoryId>, sqlx::Error> {
    let mut known = 0;
    loop {
        let ids: Vec<Uuid> = sqlx::query_scalar(WHOLE)
            .bind(tenant.as_str())
            .bind(id.to_uuid())
            .fetch_all(&mut *tx)
            .await?;
        // What was made of them while their locks were waited for is seen the next time.
        if ids.len() == known {
            return Ok(ids.into_iter().map(IdExt::from_uuid).collect());
        }
        known = ids.len();
    }
}

const FORGET: &str = "INSERT INTO memory.forgotten (tenant, memory, at)
    SELECT $1, id, $3 FROM unnest($2::uuid[]) AS gone (id)
    UNION SELECT a.tenant, a.id, $3 FROM memory.alias AS a WHERE a.tenant = $1 AND a.memory = ANY($2)
    ON CONFLICT DO NOTHING";
// What was made of these was made of what they were made of, too: an erasure of that finds it all the same.
const BRIDGE: &str = "WITH RECURSIVE above AS (
        SELECT d.memory, s.source FROM memory.derived AS d
        JOIN memory.derived AS s ON s.tenant = $1 AND s.memory = d.source
        WHERE d.tenant = $1 AND d.source = ANY($2) AND d.memory <> ALL($2)
        UNION SELECT above.memory, s.source FROM above
        JOIN memory.derived AS s ON s.tenant = $1 AND s.memory = above.source WHERE above.source = ANY($2)
    )
    INSERT INTO memory.derived (tenant, memory, source)
    SELECT m.tenant, m.id, above.source FROM above JOIN memory.memory AS m ON m.tenant = $1 AND m.id = above.memory
    WHERE above.source <> ALL($2) AND above.source <> m.id ORDER BY m.id FOR KEY SHARE OF m
    ON CONFLICT DO NOTHING";
const UNLINK: &str = "DELETE FROM memory.derived WHERE tenant = $1 AND source = ANY($2)";
const DELETE: &str = "DELETE FROM memory.memory WHERE tenant = $1 AND id = ANY($2) RETURNING id, agent";

/// Deletes the memories with their vectors, history, aliases and places in queues. A store of one of their ids that
/// comes late is refused.
pub(crate) async fn remove(
    tx: &mut PgConnection,
    tenant: &Tenant,
    ids: &[MemoryId],
    at: Timestamp,
) -> Result<Vec<Gone>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    sqlx::query(FORGET)
        .bind(tenant.as_str())
        .bind(&ids)
        .bind(at.to_chrono())
        .execute(&mut *tx)
        .await?;
    for statement in [BRIDGE, UNLINK] {
        sqlx::query(statement)
            .bind(tenant.as_str())
            .bind(&ids)
            .execute(&mut *tx)
            .await?;
    }
    let rows: Vec<(Uuid, String)> = sqlx::query_as(DELETE)
        .bind(tenant.as_str())
        .bind(&ids)
        .fetch_all(tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, agent)| (IdExt::from_uuid(id), agent))
        .collect())
}

const FREE: &str = "WITH free AS (
        UPDATE memory.memory AS m SET superseded_by = NULL, updated_at = $3
        WHERE m.tenant = $1 AND m.superseded_by = ANY($2) AND m.id <> ALL($2)
            AND NOT EXISTS (SELECT FROM memory.erasure_item AS i WHERE i.tenant = $1 AND i.memory = m.id)
        RETURNING m.id
    )
    INSERT INTO memory.embed_queue (tenant, memory, next_at) SELECT $1, id, $3 FROM free
    ON CONFLICT (tenant, memory) DO UPDATE SET attempts = 0, next_at = excluded.next_at, error = NULL";

/// What is left of those that `ids` replaced is found again: it was replaced by something made of it, which goes.
/// Answers how many wait for a vector by that.
pub(crate) async fn free(
    tx: &mut PgConnection,
    tenant: &Tenant,
    ids: &[MemoryId],
    at: Timestamp,
) -> Result<u64, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.to_uuid()).collect();
    let done = sqlx::query(FREE)
        .bind(tenant.as_str())
        .bind(ids)
        .bind(at.to_chrono())
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}
