//! Rows that are written many at a time, field by field as their types in migration 0024.

use chrono::{DateTime, Utc};
use sqlx::Postgres;
use sqlx::postgres::{PgHasArrayType, PgTypeInfo};
use uuid::Uuid;

pub(crate) type Time = DateTime<Utc>;

/// Declares rows: structs that are encoded as the named composite type.
macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident$(<$life:lifetime>)? = $type:literal { $($field:ident: $of:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, sqlx::Encode)]
            pub(crate) struct $name$(<$life>)? { $(pub(crate) $field: $of,)* }

            impl$(<$life>)? sqlx::Type<Postgres> for $name$(<$life>)? {
                fn type_info() -> PgTypeInfo {
                    PgTypeInfo::with_name($type)
                }
            }

            impl$(<$life>)? PgHasArrayType for $name$(<$life>)? {
                fn array_type_info() -> PgTypeInfo {
                    PgTypeInfo::array_of($type)
                }
            }
        )*

        /// Each type with its fields, in order.
        #[cfg(test)]
        const TYPES: &[(&str, &[&str])] = &[$(($type, &[$(stringify!($field)),*])),*];
    };
}

rows! {
    /// What must still be true of a shard for its rows to be written.
    FenceRow<'a> = "execution.fence_row" {
        shard: i16, epoch: i64, batch: i64, relayed: i64, feed: &'a [u8],
    }
    InvocationRow<'a> = "execution.invocation_row" {
        shard: i16, id: Uuid, tenant: &'a str, agent: &'a str, version: i32, artifact: &'a str, entrypoint: &'a str,
        session: Option<&'a str>, key: Option<&'a str>, priority: i16, parent: Option<Uuid>, parent_step: Option<i32>,
        root: Uuid, fork_of: Option<Uuid>, fork_step: Option<i32>, depth: i16, created_at: Time,
        deadline_at: Option<Time>, request_hash: &'a [u8], reply_to: Option<&'a str>, actor: &'a str, input: Vec<u8>,
    }
    OpenedRow<'a> = "execution.open_row" {
        shard: i16, id: Uuid, tenant: &'a str, state: &'a str, epoch: i32, node: Option<&'a str>,
        incarnation: Option<i64>, waits_for: Option<String>, wake_at: Option<Time>, session_order: i64, priority: i16,
        paused: bool, cancel_requested: bool, losses: i32, started_at: Option<Time>,
    }
    /// An open row that goes, a letter that was read.
    GoneRow = "execution.gone_row" { shard: i16, id: Uuid, }
    RecordRow<'a> = "execution.record_row" {
        shard: i16, id: Uuid, seq: i32, tenant: &'a str, epoch: i32, at: Time, kind: &'a str, step: Option<i32>,
        attempt: Option<i32>, class: Option<&'a str>, input_hash: Option<Vec<u8>>, body: Option<Vec<u8>>,
        body_hash: Option<Vec<u8>>, input_tokens: Option<i64>, output_tokens: Option<i64>, cost_usd: Option<f64>,
        started_at: Option<Time>, ended_at: Option<Time>,
    }
    EndedRow<'a> = "execution.ended_row" {
        shard: i16, id: Uuid, tenant: &'a str, outcome: &'a str, reason: Option<&'a str>, provider: Option<&'a str>,
        epoch: i32, seq: i32, started_at: Option<Time>, ended_at: Time, input_tokens: i64, output_tokens: i64,
        cost_usd: f64, output: Option<Vec<u8>>, error: Option<Vec<u8>>, key: Option<&'a str>,
    }
    KeyRow<'a> = "execution.key_row" { shard: i16, tenant: &'a str, key: &'a str, request_hash: &'a [u8], id: Uuid, }
    BodyRow<'a> = "execution.body_row" {
        shard: i16, root: Uuid, hash: Vec<u8>, part: i32, tenant: &'a str, bytes: Vec<u8>,
    }
    DeadRow<'a> = "execution.dead_row" {
        shard: i16, id: Uuid, tenant: &'a str, reason: Vec<u8>, invocation: Uuid, created_at: Time,
    }
    MailRow<'a> = "execution.mail_row" {
        shard: i16, id: Uuid, tenant: &'a str, recipient_shard: i16, kind: &'a str, sender: Uuid, recipient: Uuid,
        body: Vec<u8>,
    }
    /// Of the read model, which is written by a statement of its own.
    WrittenSummary<'a> = "execution.summary_row" {
        id: Uuid, tenant: &'a str, agent: &'a str, version: i32, entrypoint: &'a str, session: Option<&'a str>,
        priority: i16, state: &'a str, attempt: i32, created_at: Time, started_at: Option<Time>,
        ended_at: Option<Time>, input_tokens: i64, output_tokens: i64, cost_usd: f64, provider: Option<&'a str>,
        short_text: String, error: Option<&'a str>, shard: i16, batch: i64, ordinal: i32, root: Uuid,
        parent: Option<Uuid>, fork_of: Option<Uuid>, fork_step: Option<i32>, waits_for: Option<&'a str>, paused: bool,
        seq: i32,
    }
}

#[cfg(test)]
mod tests {
    use mesh_testkit::TestDatabase;
    use sqlx::Connection;

    use super::TYPES;

    /// Two columns of one kind in another order would be written, each into the other.
    #[tokio::test]
    async fn fields_stand_in_the_order_of_the_database() {
        let database = TestDatabase::create().await;
        mesh_store::migrate(database.url()).await.unwrap();
        let mut connection = sqlx::PgConnection::connect(database.url()).await.unwrap();
        assert_eq!(TYPES.len(), 11);
        for (name, fields) in TYPES {
            let attributes: Vec<String> = sqlx::query_scalar(
                "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0
                 AND NOT attisdropped ORDER BY attnum",
            )
            .bind(name)
            .fetch_all(&mut connection)
            .await
            .unwrap();
            assert_eq!(attributes, *fields, "{name}");
        }
    }
}
