//! The shard table: who owns what, how far it is, and the takeover.

use sqlx::{FromRow, PgExecutor};

#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub(crate) struct ShardRow {
    pub(crate) id: i16,
    pub(crate) owner: String,
    pub(crate) epoch: i64,
    pub(crate) batch: i64,
    pub(crate) beat: i64,
    pub(crate) relayed_batch: i64,
}

pub(crate) async fn all(db: impl PgExecutor<'_>) -> Result<Vec<ShardRow>, sqlx::Error> {
    sqlx::query_as("SELECT id, owner, epoch, batch, beat, relayed_batch FROM execution.shard ORDER BY id")
        .fetch_all(db)
        .await
}

pub(crate) async fn some(db: impl PgExecutor<'_>, ids: &[i16]) -> Result<Vec<ShardRow>, sqlx::Error> {
    sqlx::query_as("SELECT id, owner, epoch, batch, beat, relayed_batch FROM execution.shard WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(db)
        .await
}

/// Takes the shard if nothing of it changed since `seen`. Waits for a batch in flight and then misses.
pub(crate) async fn take(
    db: impl PgExecutor<'_>,
    seen: &ShardRow,
    owner: &str,
) -> Result<Option<ShardRow>, sqlx::Error> {
    let raise: i64 = if mesh_runtime::planted::is_planted("no_epoch_raise") {
        0
    } else {
        1
    };
    sqlx::query_as(
        "UPDATE execution.shard SET owner = $1, epoch = epoch + $7
         WHERE id = $2 AND owner = $3 AND epoch = $4 AND batch = $5 AND beat = $6
         RETURNING id, owner, epoch, batch, beat, relayed_batch",
    )
    .bind(owner)
    .bind(seen.id)
    .bind(&seen.owner)
    .bind(seen.epoch)
    .bind(seen.batch)
    .bind(seen.beat)
    .bind(raise)
    .fetch_optional(db)
    .await
}

/// Shows that the owner lives, and stores how far the relay is. Answers the shards that are still its own.
pub(crate) async fn beat(
    db: impl PgExecutor<'_>,
    owner: &str,
    ids: &[i16],
    epochs: &[i64],
    relayed: &[i64],
) -> Result<Vec<i16>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE execution.shard s SET beat = s.beat + 1, relayed_batch = greatest(s.relayed_batch, g.relayed)
         FROM unnest($2::int2[], $3::int8[], $4::int8[]) AS g(id, epoch, relayed)
         WHERE s.id = g.id AND s.epoch = g.epoch AND s.owner = $1
         RETURNING s.id",
    )
    .bind(owner)
    .bind(ids)
    .bind(epochs)
    .bind(relayed)
    .fetch_all(db)
    .await
}

/// Gives settled shards to another process, or to nobody (`""`) at a drained shutdown. Answers those that it had.
pub(crate) async fn hand_over(
    db: impl PgExecutor<'_>,
    ids: &[i16],
    epochs: &[i64],
    relayed: &[i64],
    to: &str,
) -> Result<Vec<i16>, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE execution.shard s
         SET owner = $4, epoch = s.epoch + 1, relayed_batch = greatest(s.relayed_batch, g.relayed)
         FROM unnest($1::int2[], $2::int8[], $3::int8[]) AS g(id, epoch, relayed)
         WHERE s.id = g.id AND s.epoch = g.epoch
         RETURNING s.id",
    )
    .bind(ids)
    .bind(epochs)
    .bind(relayed)
    .bind(to)
    .fetch_all(db)
    .await
}

pub(crate) async fn feed_id(db: impl PgExecutor<'_>) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT feed_id FROM execution.installation")
        .fetch_one(db)
        .await
}

/// Starts a new feed in place of `old`; answers the feed's id, also if somebody else was first.
pub(crate) async fn new_feed(pool: &sqlx::PgPool, old: &str) -> Result<String, sqlx::Error> {
    sqlx::query("UPDATE execution.installation SET feed_id = gen_random_uuid()::text WHERE feed_id = $1")
        .bind(old)
        .execute(pool)
        .await?;
    feed_id(pool).await
}

pub(crate) async fn ensure_partitions(
    db: impl PgExecutor<'_>,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT execution.ensure_partitions($1)")
        .bind(at)
        .execute(db)
        .await
        .map(drop)
}

/// The shard that an invocation was accepted into.
pub(crate) async fn of_invocation(
    db: impl PgExecutor<'_>,
    id: mesh_types::InvocationId,
) -> Result<Option<i16>, sqlx::Error> {
    sqlx::query_scalar("SELECT shard FROM execution.invocation WHERE id = $1")
        .bind(mesh_store::IdExt::to_uuid(id))
        .fetch_optional(db)
        .await
}
