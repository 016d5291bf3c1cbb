//! Table `messaging.channel`.

use std::fmt;

use mesh_api::messaging::ChannelView;
use mesh_types::{ChannelId, Code, Problem, Tenant, Timestamp};
use sqlx::PgConnection;
use sqlx::types::chrono::{DateTime, Utc};

/// Where a channel stands in the list: position of its newest message (0: it has none), then its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    position: i64,
    id: ChannelId,
}

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let parts = text.split_once(':');
        let place = parts.and_then(|(position, id)| {
            let (position, id) = (position.parse().ok()?, id.parse().ok()?);
            Some(Self { position, id })
        });
        place.ok_or_else(|| {
            Problem::new(Code::InvalidRequest, format!("`{text}` is no cursor of this list"))
                .field("after")
                .next("pass the `next` of the page before as it came")
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, self.id)
    }
}

/// Those with the newest messages first, behind `after`; one more than `limit` where there are more.
pub(crate) async fn list(
    tx: &mut PgConnection,
    tenant: &Tenant,
    after: Option<&Place>,
    limit: u32,
) -> Result<Vec<(Place, ChannelView)>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT c.id, c.created_at, c.created_by, newest.created_at AS last_message_at, \
                coalesce(newest.position, 0) AS position \
         FROM messaging.channel AS c LEFT JOIN LATERAL ( \
             SELECT position, created_at FROM messaging.message \
             WHERE tenant = $1 AND channel = c.id ORDER BY position DESC LIMIT 1 \
         ) AS newest ON true \
         WHERE c.tenant = $1 AND ($2::bigint IS NULL OR (coalesce(newest.position, 0), c.id) < ($2, $3)) \
         ORDER BY coalesce(newest.position, 0) DESC, c.id DESC LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(after.map(|place| place.position))
    .bind(after.map(|place| place.id.as_str()))
    .bind(i64::from(limit) + 1)
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Row::view).collect()
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    created_at: DateTime<Utc>,
    created_by: String,
    last_message_at: Option<DateTime<Utc>>,
    position: i64,
}

impl Row {
    fn view(self) -> Result<(Place, ChannelView), sqlx::Error> {
        let id: ChannelId = self.id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let view = ChannelView {
            id: id.clone(),
            created_at: self.created_at.into(),
            created_by: self.created_by,
            last_message_at: self.last_message_at.map(Into::into),
        };
        let position = self.position;
        Ok((Place { position, id }, view))
    }
}

/// Creates it if it is missing; whether it was. Writes nothing where it exists, as nearly always.
pub(crate) async fn ensure(
    tx: &mut PgConnection,
    tenant: &Tenant,
    channel: &ChannelId,
    at: Timestamp,
    by: &str,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO messaging.channel (tenant, id, created_at, created_by) SELECT $1, $2, $3, $4 \
         WHERE NOT EXISTS (SELECT FROM messaging.channel WHERE tenant = $1 AND id = $2) \
         ON CONFLICT ON CONSTRAINT channel_key DO NOTHING",
    )
    .bind(tenant.as_str())
    .bind(channel.as_str())
    .bind(at.to_chrono())
    .bind(by)
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn exists(tx: &mut PgConnection, tenant: &Tenant, channel: &ChannelId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM messaging.channel WHERE tenant = $1 AND id = $2)")
        .bind(tenant.as_str())
        .bind(channel.as_str())
        .fetch_one(tx)
        .await
}
