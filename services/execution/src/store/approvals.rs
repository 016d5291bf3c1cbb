//! What waits for a person: tool calls to be allowed, and steps of which nobody knows whether they happened.

use mesh_api::journal::{Fact, WaitOn};
use mesh_api::steering::Approval;
use mesh_store::IdExt;
use mesh_types::{InvocationId, Timestamp};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::body::{self, RecordRow};
use crate::core::Waits;

#[derive(Debug, FromRow)]
struct WaitingRow {
    invocation: Uuid,
    agent: String,
    waits_for: Option<String>,
    /// Its newest wait.
    since: Option<chrono::DateTime<chrono::Utc>>,
}

/// Of the tenant's waiting invocations those that a person can help, newest first. The list finds them, `open` says
/// what they wait for now. The condition is the one of the index `summary_asks`.
const WAITING: &str = r#"
SELECT s.invocation, s.agent, o.waits_for, (
    SELECT max(r.at) FROM execution.record r WHERE r.invocation = s.invocation AND r.kind = 'waiting'
) AS since
FROM execution.summary s
JOIN execution.open o ON o.invocation = s.invocation AND o.state = 'waiting'
WHERE s.tenant = current_setting('mesh.tenant', true) AND s.state = 'waiting'
    AND (s.waits_for LIKE '%"on":"approval"%' OR s.waits_for LIKE '%"on":"ambiguous"%')
    AND ($1::uuid IS NULL OR s.invocation <= $1)
ORDER BY s.invocation DESC LIMIT $2"#;

/// Newest invocation first, of one invocation in the order of its steps; those after `after`, more than `limit` where
/// there are more.
pub(crate) async fn list(
    connection: &mut PgConnection,
    after: Option<(InvocationId, u32)>,
    limit: u32,
) -> Result<Vec<Approval>, sqlx::Error> {
    let rows: Vec<WaitingRow> = sqlx::query_as(WAITING)
        .bind(after.map(|(id, _)| id.to_uuid()))
        // One more than the page, and the one that the cursor stands in.
        .bind(i64::from(limit) + 2)
        .fetch_all(&mut *connection)
        .await?;
    let mut all: Vec<Approval> = rows.into_iter().flat_map(asked).collect();
    all.retain(|approval| {
        after.is_none_or(|(id, step)| approval.invocation < id || approval.invocation == id && approval.step > step)
    });
    all.truncate(limit as usize + 1);
    read_begun(connection, &mut all).await?;
    Ok(all)
}

fn asked(row: WaitingRow) -> Vec<Approval> {
    let waits = row.waits_for.and_then(|text| serde_json::from_str::<Waits>(&text).ok());
    let Ok(agent) = row.agent.parse::<mesh_types::AgentName>() else {
        return Vec::new();
    };
    let invocation = InvocationId::from_uuid(row.invocation);
    let since = row.since.map_or(Timestamp::EPOCH, Timestamp::from);
    let items = waits.map_or_else(Vec::new, |waits| waits.items);
    let mut asked: Vec<Approval> = items
        .into_iter()
        .filter_map(|item| {
            let (kind, name) = match item.on {
                WaitOn::Approval { tool } => ("approval", tool),
                WaitOn::Ambiguous { name } => ("ambiguous", name),
                WaitOn::Timer { .. } | WaitOn::Signal { .. } | WaitOn::Child { .. } => return None,
            };
            Some(Approval {
                id: format!("{invocation}-{}", item.step),
                invocation,
                agent: agent.clone(),
                step: item.step,
                kind: kind.into(),
                name,
                input: Value::Null,
                since,
            })
        })
        .collect();
    asked.sort_by_key(|approval| approval.step);
    asked
}

/// Arguments, and when it was asked.
async fn read_begun(connection: &mut PgConnection, all: &mut [Approval]) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = all.iter().map(|approval| approval.invocation.to_uuid()).collect();
    let steps: Vec<i32> = all.iter().map(|approval| approval.step.cast_signed()).collect();
    let rows: Vec<RecordRow> = sqlx::query_as(
        "SELECT r.invocation, r.seq, r.epoch, r.at, r.body, r.body_hash
         FROM unnest($1::uuid[], $2::int4[]) AS w(id, step)
         JOIN execution.record r ON r.invocation = w.id AND r.step = w.step AND r.kind = 'begun'
         ORDER BY r.invocation, r.seq",
    )
    .bind(&ids)
    .bind(&steps)
    .fetch_all(&mut *connection)
    .await?;
    let of: Vec<Uuid> = rows.iter().map(|row| row.invocation).collect();
    let records = body::to_records(connection, rows).await?;
    for (id, record) in of.into_iter().zip(records) {
        let id = InvocationId::from_uuid(id);
        let Fact::Begun(begun) = record.fact else { continue };
        let is_it = |approval: &&mut Approval| approval.invocation == id && approval.step == begun.step;
        let Some(approval) = all.iter_mut().find(is_it) else {
            continue;
        };
        if approval.kind == "approval" {
            approval.since = record.at;
        }
        let mut input = begun.input;
        let arguments = input.get_mut("arguments").map(Value::take);
        approval.input = arguments.unwrap_or(input);
    }
    Ok(())
}
