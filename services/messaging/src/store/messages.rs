//! Table `messaging.message`: insert only.

use mesh_api::messaging::Message;
use mesh_types::{ChannelId, MessageId, Tenant};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

use crate::messages::{Draft, author, author_kind};

/// Bytes of JSON at which a page of history is cut: half of what the server carries in a message.
const PAGE_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// The newest messages, newest first.
pub(crate) struct Newest {
    pub(crate) items: Vec<Message>,
    /// Whether there are older ones.
    pub(crate) more: bool,
}

/// Inserts it if its id is free; whether it was.
pub(crate) async fn insert(tx: &mut PgConnection, tenant: &Tenant, draft: &Draft) -> Result<bool, sqlx::Error> {
    let message = &draft.message;
    let done = sqlx::query(
        "INSERT INTO messaging.message \
         (tenant, channel, id, author_kind, author_id, text, content, metadata, size, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT ON CONSTRAINT message_key DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(message.channel_id.as_str())
    .bind(message.id.as_str())
    .bind(author_kind(message.author.kind))
    .bind(&message.author.id)
    .bind(&message.text)
    .bind(&draft.content)
    .bind(&draft.metadata)
    .bind(draft.size)
    .bind(message.created_at.to_chrono())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn get(
    tx: &mut PgConnection,
    tenant: &Tenant,
    channel: &ChannelId,
    id: &MessageId,
) -> Result<Option<Message>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT channel, id, author_kind, author_id, text, content, metadata, created_at, 0::bigint AS available \
         FROM messaging.message WHERE tenant = $1 AND channel = $2 AND id = $3",
    )
    .bind(tenant.as_str())
    .bind(channel.as_str())
    .bind(id.as_str())
    .fetch_optional(tx)
    .await?;
    row.map(Row::message).transpose()
}

/// Where a message stands in the order of its channel.
pub(crate) async fn position(
    tx: &mut PgConnection,
    tenant: &Tenant,
    channel: &ChannelId,
    id: &MessageId,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT position FROM messaging.message WHERE tenant = $1 AND channel = $2 AND id = $3")
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .bind(id.as_str())
        .fetch_optional(tx)
        .await
}

/// At most `limit` of them, at least one, as many as one reply carries; those before position `before`.
pub(crate) async fn newest(
    tx: &mut PgConnection,
    tenant: &Tenant,
    channel: &ChannelId,
    before: Option<i64>,
    limit: u32,
) -> Result<Newest, sqlx::Error> {
    // Sizes first, from the index alone; only the rows that fit are read.
    let rows: Vec<Row> = sqlx::query_as(
        "WITH sizes AS ( \
             SELECT position, size FROM messaging.message \
             WHERE tenant = $1 AND channel = $2 AND ($3::bigint IS NULL OR position < $3) \
             ORDER BY position DESC LIMIT $4 \
         ), page AS ( \
             SELECT position, count(*) OVER () AS available, sum(size) OVER (ORDER BY position DESC) - size AS newer \
             FROM sizes \
         ) \
         SELECT m.channel, m.id, m.author_kind, m.author_id, m.text, m.content, m.metadata, m.created_at, \
                page.available \
         FROM page JOIN messaging.message AS m \
             ON m.tenant = $1 AND m.channel = $2 AND m.position = page.position \
         WHERE page.newer < $5 ORDER BY m.position DESC",
    )
    .bind(tenant.as_str())
    .bind(channel.as_str())
    .bind(before)
    .bind(i64::from(limit) + 1)
    .bind(PAGE_BYTES_MAX)
    .fetch_all(tx)
    .await?;
    let available = rows
        .first()
        .map_or(0, |row| usize::try_from(row.available).unwrap_or(0));
    let items: Vec<Message> = rows
        .into_iter()
        .take(limit as usize)
        .map(Row::message)
        .collect::<Result<_, _>>()?;
    Ok(Newest {
        more: available > items.len(),
        items,
    })
}

#[derive(sqlx::FromRow)]
struct Row {
    channel: String,
    id: String,
    author_kind: String,
    author_id: String,
    text: String,
    content: Option<String>,
    metadata: Option<String>,
    created_at: DateTime<Utc>,
    /// Rows that there were to choose from.
    available: i64,
}

impl Row {
    fn message(self) -> Result<Message, sqlx::Error> {
        let author = author(&self.author_kind, self.author_id)
            .ok_or_else(|| sqlx::Error::Decode(format!("`{}` is no kind of author", self.author_kind).into()))?;
        Ok(Message {
            id: self.id.parse().map_err(unreadable)?,
            channel_id: self.channel.parse().map_err(unreadable)?,
            author,
            text: self.text,
            content: self
                .content
                .map(|json| serde_json::from_str(&json))
                .transpose()
                .map_err(unreadable)?,
            metadata: self
                .metadata
                .map(|json| serde_json::from_str(&json))
                .transpose()
                .map_err(unreadable)?
                .unwrap_or_default(),
            created_at: self.created_at.into(),
        })
    }
}

/// A stored value that this build cannot read: an error of decoding, not of the caller.
fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
