//! All SQL of the service. Each function takes the tenant (or a transaction of it); row level security holds it to it.

pub(crate) mod embed_queue;
pub(crate) mod memories;
pub(crate) mod search;

use chrono::{DateTime, Utc};
use mesh_api::memory::{Memory, MemorySource, MemoryType};
use mesh_store::IdExt;
use mesh_types::{Code, Problem};
use uuid::Uuid;

/// The columns of [`Row`], of the table under the alias `m`.
macro_rules! columns {
    () => {
        "m.id, m.agent, m.kind, m.content, m.tags, m.importance, m.source_invocation, m.source_step, m.metadata, \
         m.embedding_model IS NOT NULL AS embedded, m.created_at, m.updated_at"
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
    embedded: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
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
            embedded: row.embedded,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        })
    }
}

fn kind(text: &str) -> Option<MemoryType> {
    MemoryType::ALL.into_iter().find(|kind| kind.as_str() == text)
}
