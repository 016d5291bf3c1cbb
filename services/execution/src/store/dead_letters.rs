//! Dead letters: what could not be handled, until a person settles it.

use chrono::{DateTime, Utc};
use mesh_api::execution::DeadLetter;
use mesh_store::IdExt;
use mesh_types::{DeadLetterId, InvocationId, Problem, Tenant, Timestamp};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

#[derive(Debug, FromRow)]
struct DeadRow {
    id: Uuid,
    tenant: String,
    origin: String,
    reason: Vec<u8>,
    invocation: Option<Uuid>,
    subject: Option<String>,
    message: Option<Vec<u8>>,
    created_at: DateTime<Utc>,
    settled: Option<String>,
}

/// A message that was no invocation; `true` if it was not kept before. The same message again is the same row.
pub(crate) async fn insert_poison(
    db: impl PgExecutor<'_>,
    id: DeadLetterId,
    tenant: &Tenant,
    reason: &Problem,
    subject: &str,
    message: &[u8],
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO execution.dead_letter (id, tenant, origin, reason, subject, message, created_at)
         VALUES ($1, $2, 'intake', $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.to_uuid())
    .bind(tenant.as_str())
    .bind(serde_json::to_vec(reason).unwrap_or_default())
    .bind(subject.replace('\0', "\u{fffd}"))
    .bind(message)
    .bind(at.to_chrono())
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What a list shows of a message: many of them must fit into one answer.
const LIST_MESSAGE_BYTES: i32 = 4 * 1024;
/// What one dead letter shows of it; escaped or in hexadecimal it still fits into an answer.
const MESSAGE_BYTES: i32 = 1024 * 1024 + 1024;

/// Newest first; of long messages the beginning. One more than `limit`.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: Option<DeadLetterId>,
    all: bool,
    limit: u32,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let rows: Vec<DeadRow> = sqlx::query_as(
        "SELECT id, tenant, origin, reason, invocation, subject, substring(message FROM 1 FOR $4) AS message, created_at,
             settled
         FROM execution.dead_letter
         WHERE tenant = current_setting('mesh.tenant', true) AND ($1::uuid IS NULL OR id < $1)
             AND ($2 OR settled IS NULL)
         ORDER BY id DESC LIMIT $3",
    )
    .bind(after.map(IdExt::to_uuid))
    .bind(all)
    .bind(i64::from(limit) + 1)
    .bind(LIST_MESSAGE_BYTES)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(DeadRow::parse).collect()
}

pub(crate) async fn get(db: impl PgExecutor<'_>, id: DeadLetterId) -> Result<Option<DeadLetter>, sqlx::Error> {
    let row: Option<DeadRow> = sqlx::query_as(
        "SELECT id, tenant, origin, reason, invocation, subject, substring(message FROM 1 FOR $2) AS message, created_at,
             settled
         FROM execution.dead_letter WHERE id = $1",
    )
    .bind(id.to_uuid())
    .bind(MESSAGE_BYTES)
    .fetch_optional(db)
    .await?;
    row.map(DeadRow::parse).transpose()
}

/// Settles it once; `false` if somebody did before.
pub(crate) async fn settle(
    db: impl PgExecutor<'_>,
    tenant: &Tenant,
    id: DeadLetterId,
    how: &str,
) -> Result<bool, sqlx::Error> {
    let done =
        sqlx::query("UPDATE execution.dead_letter SET settled = $3 WHERE id = $1 AND tenant = $2 AND settled IS NULL")
            .bind(id.to_uuid())
            .bind(tenant.as_str())
            .bind(how)
            .execute(db)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Subject and body of a message that was no invocation, as they came.
pub(crate) async fn message(
    db: impl PgExecutor<'_>,
    id: DeadLetterId,
) -> Result<Option<(String, Vec<u8>)>, sqlx::Error> {
    let row: Option<(Option<String>, Option<Vec<u8>>)> =
        sqlx::query_as("SELECT subject, message FROM execution.dead_letter WHERE id = $1")
            .bind(id.to_uuid())
            .fetch_optional(db)
            .await?;
    Ok(row.and_then(|(subject, message)| subject.zip(message)))
}

/// Settles it by what goes on with its work; `false` if that was done before. Who discarded it meanwhile was too late:
/// the work goes on.
pub(crate) async fn settle_requeued(
    db: impl PgExecutor<'_>,
    tenant: &Tenant,
    id: DeadLetterId,
    by: InvocationId,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE execution.dead_letter SET settled = 'requeued', requeued_as = $3
         WHERE id = $1 AND tenant = $2 AND settled IS DISTINCT FROM 'requeued'",
    )
    .bind(id.to_uuid())
    .bind(tenant.as_str())
    .bind(by.to_uuid())
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What goes on with its work.
pub(crate) async fn requeued_as(
    db: impl PgExecutor<'_>,
    id: DeadLetterId,
) -> Result<Option<InvocationId>, sqlx::Error> {
    let by: Option<Option<Uuid>> = sqlx::query_scalar("SELECT requeued_as FROM execution.dead_letter WHERE id = $1")
        .bind(id.to_uuid())
        .fetch_optional(db)
        .await?;
    Ok(by.flatten().map(InvocationId::from_uuid))
}

impl DeadRow {
    fn parse(self) -> Result<DeadLetter, sqlx::Error> {
        let bad = |what: &str| sqlx::Error::Decode(format!("dead letter {}: {what}", self.id).into());
        Ok(DeadLetter {
            id: DeadLetterId::from_uuid(self.id),
            tenant: self.tenant.parse().map_err(|_| bad("tenant"))?,
            origin: self.origin.clone(),
            reason: serde_json::from_slice(&self.reason).map_err(|_| bad("reason"))?,
            invocation: self.invocation.map(InvocationId::from_uuid),
            message: self.message.as_deref().map(readable),
            subject: self.subject.clone(),
            created_at: self.created_at.into(),
            settled: self.settled.clone(),
        })
    }
}

/// Text where it is UTF-8 (as far as it was cut), else `hex:` and its bytes.
fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()
        }
        Err(_) => format!("hex:{}", hex::encode(bytes)),
    }
}
