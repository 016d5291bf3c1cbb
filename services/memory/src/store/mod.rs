//! All SQL of the service. Each function takes the tenant (or a transaction of it); row level security holds it to it.

pub(crate) mod consolidations;
pub(crate) mod documents;
pub(crate) mod documents_write;
pub(crate) mod embed_queue;
pub(crate) mod erase;
pub(crate) mod erasures;
pub(crate) mod expiry;
pub(crate) mod history;
pub(crate) mod life;
pub(crate) mod memories;
pub(crate) mod reembed;
pub(crate) mod search;
pub(crate) mod vectors;

use chrono::{DateTime, Utc};
use mesh_api::memory::{Memory, MemorySource, MemoryType, Scope};
use mesh_store::IdExt;
use mesh_types::{Code, Problem};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The columns of [`Row`], of the table under the alias `m`.
macro_rules! columns {
    () => {
        "m.id, m.agent, m.kind, m.content, m.tags, m.importance, m.source_invocation, m.source_step, m.metadata, \
         m.scope, m.session, m.user_id, m.version, m.seen, m.superseded_by, m.expires_at, \
         (m.superseded_by IS NULL AND NOT EXISTS (SELECT FROM memory.embed_queue AS waiting \
         WHERE waiting.tenant = m.tenant AND waiting.memory = m.id)) AS embedded, m.created_at, m.updated_at"
    };
}
use columns;

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    agent: String,
    kind: String,
    content: String,
    tags: Vec<String>,
    importance: f64,
    source_invocation: Option<Uuid>,
    source_step: Option<i64>,
    metadata: String,
    scope: String,
    session: Option<String>,
    user_id: Option<String>,
    version: i32,
    seen: i32,
    superseded_by: Option<Uuid>,
    expires_at: Option<DateTime<Utc>>,
    embedded: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    /// Of a statement whose first columns are [`columns`], in their order: a search reads many, and looking each column
    /// of each row up by its name took a part of its time.
    pub(crate) fn first(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            agent: row.try_get(1)?,
            kind: row.try_get(2)?,
            content: row.try_get(3)?,
            tags: row.try_get(4)?,
            importance: row.try_get(5)?,
            source_invocation: row.try_get(6)?,
            source_step: row.try_get(7)?,
            metadata: row.try_get(8)?,
            scope: row.try_get(9)?,
            session: row.try_get(10)?,
            user_id: row.try_get(11)?,
            version: row.try_get(12)?,
            seen: row.try_get(13)?,
            superseded_by: row.try_get(14)?,
            expires_at: row.try_get(15)?,
            embedded: row.try_get(16)?,
            created_at: row.try_get(17)?,
            updated_at: row.try_get(18)?,
        })
    }

    /// It was put into the queue after it was read.
    pub(crate) fn waits(&mut self) {
        self.embedded = false;
    }
}

impl TryFrom<Row> for Memory {
    type Error = Problem;

    /// Fails only on a row that this service did not write.
    fn try_from(row: Row) -> Result<Self, Problem> {
        let unreadable = |what: &str| Problem::new(Code::Internal, format!("memory {}: unreadable {what}", row.id));
        let source = match (row.source_invocation, row.source_step) {
            (Some(invocation), Some(step)) => Some(MemorySource {
                invocation: IdExt::from_uuid(invocation),
                step: u32::try_from(step).map_err(|_| unreadable("step"))?,
            }),
            _ => None,
        };
        Ok(Self {
            id: IdExt::from_uuid(row.id),
            agent: row.agent.parse().map_err(|_| unreadable("agent"))?,
            kind: kind(&row.kind).ok_or_else(|| unreadable("type"))?,
            metadata: serde_json::from_str(&row.metadata).map_err(|_| unreadable("metadata"))?,
            content: row.content,
            tags: row.tags,
            importance: row.importance,
            source,
            scope: scope(&row.scope).ok_or_else(|| unreadable("scope"))?,
            session: row.session,
            user: row.user_id,
            version: row.version.unsigned_abs(),
            seen: row.seen.unsigned_abs(),
            superseded_by: row.superseded_by.map(IdExt::from_uuid),
            expires_at: row.expires_at.map(Into::into),
            embedded: row.embedded,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

fn kind(text: &str) -> Option<MemoryType> {
    MemoryType::ALL.into_iter().find(|kind| kind.as_str() == text)
}

fn scope(text: &str) -> Option<Scope> {
    Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
}
