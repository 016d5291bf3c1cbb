//! What an owner loads when it takes a shard: its open invocations, and later the journal of one.

use std::collections::HashMap;

use mesh_api::journal::{Record, Usage};
use mesh_store::IdExt;
use mesh_types::{Id, InvocationId};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::body::{self, RecordRow};
use super::read::{InvocationRow, Phase, SELECT_INVOCATION};
use crate::core::append::Child;
use crate::core::{Meta, OpenRow, RunState};

/// What an owner knows of a shard when it has taken it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) rows: Vec<LoadedRow>,
    /// Open children of those, each with its parent.
    pub(crate) children: Vec<(InvocationId, Child)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadedRow {
    pub(crate) meta: Meta,
    pub(crate) row: OpenRow,
    /// It waits, and something was written since: whoever claims it looks whether that is enough.
    pub(crate) is_woken: bool,
}

/// The open invocations of a shard, oldest first. One that cannot be read is left out with an error in the log: it must
/// not keep the others from running.
pub(crate) async fn open(connection: &mut PgConnection, shard: i16) -> Result<Loaded, sqlx::Error> {
    let rows: Vec<InvocationRow> = sqlx::query_as(AssertSqlSafe(format!(
        "{SELECT_INVOCATION} WHERE o.shard = $1 ORDER BY o.session_order, o.invocation"
    )))
    .bind(shard)
    .fetch_all(&mut *connection)
    .await?;
    let mut open = Vec::with_capacity(rows.len());
    for row in rows {
        let is_settled = row.last_kind() == Some("waiting");
        match row.parse() {
            Ok((meta, Phase::Open(row))) => open.push(LoadedRow {
                is_woken: matches!(row.state, RunState::Waiting(_)) && !is_settled,
                meta,
                row,
            }),
            Ok((meta, Phase::Ended(_))) => {
                tracing::error!(invocation = %meta.id, "it is open and ended")
            }
            Err(error) => tracing::error!(%error, shard, "an open invocation cannot be run"),
        }
    }
    let used = usage(connection, shard).await?;
    for loaded in &mut open {
        loaded.row.usage = used.get(&loaded.meta.id).copied().unwrap_or_default();
    }
    Ok(Loaded {
        rows: open,
        children: children(connection, shard).await?,
    })
}

/// What the recorded steps of all that is open used.
async fn usage(connection: &mut PgConnection, shard: i16) -> Result<HashMap<InvocationId, Usage>, sqlx::Error> {
    let rows: Vec<(Uuid, i64, i64, f64)> = sqlx::query_as(
        "SELECT o.invocation, sum(r.input_tokens)::int8, sum(r.output_tokens)::int8, sum(r.cost_usd ORDER BY r.seq)
         FROM execution.open o
         JOIN execution.record r ON r.invocation = o.invocation AND r.kind = 'done'
         WHERE o.shard = $1
         GROUP BY o.invocation",
    )
    .bind(shard)
    .fetch_all(connection)
    .await?;
    let used = |(id, input, output, cost_usd): (Uuid, i64, i64, f64)| {
        let usage = Usage {
            input_tokens: input.cast_unsigned(),
            output_tokens: output.cast_unsigned(),
            cost_usd,
        };
        (InvocationId::from_uuid(id), usage)
    };
    Ok(rows.into_iter().map(used).collect())
}

/// Children that are open, or whose letter is still on its way.
async fn children(connection: &mut PgConnection, shard: i16) -> Result<Vec<(InvocationId, Child)>, sqlx::Error> {
    let rows: Vec<(Uuid, i32, Uuid, i16)> = sqlx::query_as(
        "SELECT i.parent, coalesce(i.parent_step, 0), i.id, i.shard
         FROM execution.open p
         JOIN execution.invocation i ON i.parent = p.invocation
         JOIN execution.open o ON o.invocation = i.id
         WHERE p.shard = $1
         UNION
         SELECT m.sender, 0, m.recipient, m.shard
         FROM execution.open p
         JOIN execution.mail m ON m.sender = p.invocation AND m.kind = 'child'
         WHERE p.shard = $1",
    )
    .bind(shard)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(parent, step, id, shard)| {
            let child = Child {
                step: step.cast_unsigned(),
                id: InvocationId::from_uuid(id),
                shard: shard.cast_unsigned(),
            };
            (InvocationId::from_uuid(parent), child)
        })
        .collect())
}

/// Records of one invocation with seq above `after`, at most `limit`.
pub(crate) async fn journal(
    connection: &mut PgConnection,
    id: InvocationId,
    after: u32,
    limit: i64,
) -> Result<Vec<Record>, sqlx::Error> {
    let rows: Vec<RecordRow> = sqlx::query_as(
        "SELECT invocation, seq, epoch, at, body, body_hash FROM execution.record
         WHERE invocation = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    )
    .bind(id.to_uuid())
    .bind(i32::try_from(after).unwrap_or(i32::MAX))
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    body::to_records(connection, rows).await
}

/// Who holds a key or an id already, with the hash of the request that took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: InvocationId,
    pub(crate) tenant: String,
    pub(crate) key: Option<String>,
    pub(crate) request_hash: Vec<u8>,
}

/// Looks up keys and ids that callers chose: one round trip for all of a batch.
pub(crate) async fn known(
    connection: &mut PgConnection,
    tenants: &[String],
    keys: &[String],
    ids: &[Uuid],
) -> Result<Vec<Known>, sqlx::Error> {
    let rows: Vec<(Uuid, String, Option<String>, Vec<u8>)> = sqlx::query_as(
        "SELECT k.invocation, k.tenant, k.key, k.request_hash
         FROM unnest($1::text[], $2::text[]) AS w(tenant, key)
         JOIN execution.key k ON k.tenant = w.tenant AND k.key = w.key
         UNION ALL
         SELECT i.id, i.tenant, NULL, i.request_hash FROM execution.invocation i WHERE i.id = ANY($3)",
    )
    .bind(tenants)
    .bind(keys)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, tenant, key, request_hash)| Known {
            id: InvocationId::from_u128(id.as_u128()),
            tenant,
            key,
            request_hash,
        })
        .collect())
}
