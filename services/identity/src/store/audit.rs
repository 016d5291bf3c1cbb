//! Table `identity.audit`.

use mesh_api::identity::{AuditEntry, AuditFact, AuditOutcome};
use mesh_store::IdExt;
use mesh_types::EventId;
use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::unreadable;

/// What is looked for among facts.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) outcome: Option<AuditOutcome>,
    pub(crate) action: Option<&'a str>,
    /// Only what this one did.
    pub(crate) actor: Option<&'a str>,
    pub(crate) before: Option<EventId>,
}

pub(crate) async fn insert(tx: &mut PgConnection, id: EventId, fact: &AuditFact) -> Result<(), sqlx::Error> {
    let entry = &fact.entry;
    sqlx::query(
        "INSERT INTO identity.audit \
           (id, tenant, at, actor, action, subject, outcome, reason, before, after, request_id) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(id.to_uuid())
    .bind(fact.tenant.as_str())
    .bind(fact.at.to_chrono())
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(outcome_text(entry.outcome))
    .bind(&entry.reason)
    .bind(entry.before.to_string())
    .bind(entry.after.to_string())
    .bind(&entry.request_id)
    .execute(tx)
    .await
    .map(drop)
}

/// Newest first.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    wanted: &Wanted<'_>,
    limit: i64,
) -> Result<Vec<AuditFact>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, tenant, at, actor, action, subject, outcome, reason, before, after, request_id \
         FROM identity.audit \
         WHERE tenant = current_setting('mesh.tenant') AND ($1::text IS NULL OR outcome = $1) \
           AND ($2::text IS NULL OR action = $2) AND ($3::text IS NULL OR actor = $3) \
           AND ($4::uuid IS NULL OR id < $4) \
         ORDER BY id DESC LIMIT $5",
    )
    .bind(wanted.outcome.map(outcome_text))
    .bind(wanted.action)
    .bind(wanted.actor)
    .bind(wanted.before.map(EventId::to_uuid))
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Row::fact).collect()
}

pub(crate) fn outcome_text(outcome: AuditOutcome) -> &'static str {
    match outcome {
        AuditOutcome::Done => "done",
        AuditOutcome::Refused => "refused",
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    tenant: String,
    at: DateTime<Utc>,
    actor: String,
    action: String,
    subject: String,
    outcome: String,
    reason: String,
    before: String,
    after: String,
    request_id: Option<String>,
}

impl Row {
    fn fact(self) -> Result<AuditFact, sqlx::Error> {
        let json = |text: &str| serde_json::from_str(text).map_err(unreadable);
        let entry = AuditEntry {
            actor: self.actor,
            action: self.action,
            subject: self.subject,
            outcome: match self.outcome.as_str() {
                "done" => AuditOutcome::Done,
                _ => AuditOutcome::Refused,
            },
            reason: self.reason,
            before: json(&self.before)?,
            after: json(&self.after)?,
            request_id: self.request_id,
        };
        Ok(AuditFact {
            id: EventId::from_uuid(self.id).to_string(),
            tenant: self.tenant.parse().map_err(unreadable)?,
            at: self.at.into(),
            entry,
        })
    }
}
