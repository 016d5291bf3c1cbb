//! Reads what Postgres holds, past every role and policy, for the checker.

use std::collections::BTreeMap;

use mesh_api::journal::{Fact, Usage};
use mesh_types::{Id as _, InvocationId, Timestamp};
use sqlx::types::{Uuid, chrono};
use sqlx::{Connection as _, FromRow, PgConnection};

use crate::evidence::{EndedRow, Entry, Invocation, Journal, Shard, Takeover};

/// Bytes of one entry of `feed`: a 16-byte id and a 4-byte seq, big-endian.
const FEED_ENTRY: usize = 20;

type Time = chrono::DateTime<chrono::Utc>;

/// How far the mesh is with what was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) ended: i64,
    pub(crate) open: i64,
    pub(crate) mail: i64,
    /// Shards with batches that are not relayed.
    pub(crate) behind: i64,
    /// Ended invocations whose list entry lags.
    pub(crate) stale: i64,
    pub(crate) dead_messages: i64,
}

impl Progress {
    pub(crate) async fn read(database: &str, keys: &[String]) -> Result<Self, sqlx::Error> {
        let mut connection = PgConnection::connect(database).await?;
        let row: (i64, i64, i64, i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM execution.key k JOIN execution.ended e ON e.invocation = k.invocation \
                WHERE k.key = ANY($1)), \
             (SELECT count(*) FROM execution.open), (SELECT count(*) FROM execution.mail), \
             (SELECT count(*) FROM execution.shard WHERE relayed_batch <> batch), \
             (SELECT count(*) FROM execution.ended e LEFT JOIN execution.summary s ON s.invocation = e.invocation \
                WHERE s.state IS DISTINCT FROM e.outcome), \
             (SELECT count(*) FROM execution.dead_letter WHERE message IS NOT NULL)",
        )
        .bind(keys)
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        let (ended, open, mail, behind, stale, dead_messages) = row;
        Ok(Self {
            ended,
            open,
            mail,
            behind,
            stale,
            dead_messages,
        })
    }
}

/// Notes who takes a shard: neither a batch nor a sign of life, and gone from the tables once the next one has it.
const NOTE_TAKEOVERS: &str = "
    CREATE SCHEMA chaos;
    CREATE TABLE chaos.takeover (number bigserial, shard smallint, owner text, epoch_before bigint, epoch bigint);
    CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $note$
    BEGIN
        INSERT INTO chaos.takeover (shard, owner, epoch_before, epoch) VALUES (NEW.id, NEW.owner, OLD.epoch, NEW.epoch);
        RETURN NULL;
    END $note$;
    CREATE TRIGGER note AFTER UPDATE ON execution.shard FOR EACH ROW
        WHEN (NEW.batch = OLD.batch AND NEW.beat = OLD.beat) EXECUTE FUNCTION chaos.note();";

pub(crate) async fn note_takeovers(database: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(database).await?;
    sqlx::raw_sql(NOTE_TAKEOVERS).execute(&mut connection).await?;
    connection.close().await
}

async fn takeovers(db: &mut PgConnection) -> Result<Vec<Takeover>, sqlx::Error> {
    let rows: Vec<(i16, String, i64, i64)> =
        sqlx::query_as("SELECT shard, owner, epoch_before, epoch FROM chaos.takeover ORDER BY number")
            .fetch_all(db)
            .await?;
    let each = rows.into_iter().map(|(shard, owner, epoch_before, epoch)| Takeover {
        shard,
        owner,
        epoch_before,
        epoch,
    });
    Ok(each.collect())
}

/// All of it.
pub(crate) async fn journal(database: &str) -> anyhow::Result<Journal> {
    let mut connection = PgConnection::connect(database).await?;
    let db = &mut connection;
    let (shards, mut places) = feed(db).await?;
    let takeovers = takeovers(db).await?;
    let mut journal = Journal {
        shards,
        takeovers,
        invocations: invocations(db).await?,
        ..Journal::default()
    };
    records(db, &mut journal.invocations, &mut places).await?;
    ends(db, &mut journal.invocations).await?;
    let open: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT invocation, concat_ws(' for ', state, waits_for) FROM execution.open")
            .fetch_all(&mut *db)
            .await?;
    journal.open = open.into_iter().map(|(id, state)| (of(id), state)).collect();
    let mail: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.mail")
        .fetch_one(&mut *db)
        .await?;
    journal.mail = u64::try_from(mail).unwrap_or_default();
    let keys: Vec<(String, Uuid)> = sqlx::query_as("SELECT key, invocation FROM execution.key")
        .fetch_all(&mut *db)
        .await?;
    journal.keys = keys.into_iter().map(|(key, id)| (key, of(id))).collect();
    let dead: Vec<Vec<u8>> = sqlx::query_scalar("SELECT message FROM execution.dead_letter WHERE message IS NOT NULL")
        .fetch_all(&mut *db)
        .await?;
    journal.dead_messages = dead
        .iter()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect();
    let replies: Vec<(String, i64)> =
        sqlx::query_as("SELECT channel, count(*) FROM messaging.message WHERE author_kind = 'agent' GROUP BY channel")
            .fetch_all(&mut *db)
            .await?;
    let replies = replies
        .into_iter()
        .map(|(channel, count)| (channel, u64::try_from(count).unwrap_or_default()));
    journal.replies_by_channel = replies.collect();
    journal.memories = memories(db).await?;
    connection.close().await?;
    Ok(journal)
}

async fn memories(db: &mut PgConnection) -> Result<BTreeMap<InvocationId, u64>, sqlx::Error> {
    let rows: Vec<Uuid> = sqlx::query_scalar(
        "SELECT source_invocation FROM memory.memory WHERE source_invocation IS NOT NULL \
         UNION ALL SELECT source_invocation FROM memory.alias WHERE source_invocation IS NOT NULL",
    )
    .fetch_all(db)
    .await?;
    let mut memories = BTreeMap::new();
    for invocation in rows {
        *memories.entry(of(invocation)).or_default() += 1;
    }
    Ok(memories)
}

fn of(id: Uuid) -> InvocationId {
    InvocationId::from_u128(id.as_u128())
}

type Places = BTreeMap<(InvocationId, u32), Vec<(i64, usize)>>;

async fn feed(db: &mut PgConnection) -> Result<(Vec<Shard>, Places), sqlx::Error> {
    let rows: Vec<(i16, i64, i64, i64)> =
        sqlx::query_as("SELECT id, epoch, batch, relayed_batch FROM execution.shard ORDER BY id")
            .fetch_all(&mut *db)
            .await?;
    let mut shards: Vec<Shard> = rows
        .into_iter()
        .map(|(id, epoch, batch, relayed_batch)| Shard {
            id,
            epoch,
            batch,
            relayed_batch,
            fed: Vec::new(),
        })
        .collect();
    let mut places = Places::new();
    let batches: Vec<(i16, i64, Vec<u8>)> =
        sqlx::query_as("SELECT shard, batch, entries FROM execution.feed ORDER BY shard, batch")
            .fetch_all(&mut *db)
            .await?;
    for (shard, batch, entries) in batches {
        if let Some(shard) = shards.iter_mut().find(|one| one.id == shard) {
            shard.fed.push(batch);
        }
        for (ordinal, entry) in entries.chunks_exact(FEED_ENTRY).enumerate() {
            let (id, seq) = entry.split_at(16);
            let id = u128::from_be_bytes(id.try_into().unwrap_or_default());
            let seq = u32::from_be_bytes(seq.try_into().unwrap_or_default());
            let key = (InvocationId::from_u128(id), seq);
            places.entry(key).or_default().push((batch, ordinal));
        }
    }
    Ok((shards, places))
}

#[derive(FromRow)]
struct InvocationRow {
    id: Uuid,
    agent: String,
    key: Option<String>,
    session: Option<String>,
    parent: Option<Uuid>,
    shard: i16,
    created_at: Time,
}

async fn invocations(db: &mut PgConnection) -> Result<BTreeMap<InvocationId, Invocation>, sqlx::Error> {
    let rows: Vec<InvocationRow> =
        sqlx::query_as("SELECT id, agent, key, session, parent, shard, created_at FROM execution.invocation")
            .fetch_all(&mut *db)
            .await?;
    let each = rows.into_iter().map(|row| {
        let invocation = Invocation {
            agent: row.agent,
            key: row.key,
            session: row.session,
            parent: row.parent.map(of),
            shard: row.shard,
            created_at: Some(row.created_at.into()),
            ..Invocation::default()
        };
        (of(row.id), invocation)
    });
    Ok(each.collect())
}

#[derive(FromRow)]
struct RecordRow {
    invocation: Uuid,
    /// Where its bodies lie.
    root: Option<Uuid>,
    seq: i32,
    epoch: i32,
    at: Time,
    kind: String,
    body: Option<Vec<u8>>,
    body_hash: Option<Vec<u8>>,
}

async fn records(
    db: &mut PgConnection,
    invocations: &mut BTreeMap<InvocationId, Invocation>,
    places: &mut Places,
) -> Result<(), sqlx::Error> {
    let rows: Vec<RecordRow> = sqlx::query_as(
        "SELECT r.invocation, i.root, r.seq, r.epoch, r.at, r.kind, r.body, r.body_hash FROM execution.record r \
         LEFT JOIN execution.invocation i ON i.id = r.invocation ORDER BY r.invocation, r.seq",
    )
    .fetch_all(&mut *db)
    .await?;
    for row in rows {
        let bytes = match (row.body, row.body_hash) {
            (Some(bytes), _) => bytes,
            (None, Some(hash)) => parts(db, row.root.unwrap_or(row.invocation), &hash).await?,
            (None, None) => Vec::new(),
        };
        let (id, seq) = (of(row.invocation), u32::try_from(row.seq).unwrap_or_default());
        let entry = Entry {
            seq,
            epoch: u32::try_from(row.epoch).unwrap_or_default(),
            at: Timestamp::from(row.at),
            kind: row.kind,
            fact: serde_json::from_slice::<Fact>(&bytes).ok(),
            places: places.remove(&(id, seq)).unwrap_or_default(),
        };
        // A record without its invocation gets one that nobody asked for.
        invocations.entry(id).or_default().records.push(entry);
    }
    Ok(())
}

async fn parts(db: &mut PgConnection, root: Uuid, hash: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
    let parts: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT bytes FROM execution.body WHERE root = $1 AND hash = $2 ORDER BY part")
            .bind(root)
            .bind(hash)
            .fetch_all(db)
            .await?;
    Ok(parts.concat())
}

#[derive(FromRow)]
struct EndRow {
    invocation: Uuid,
    outcome: String,
    reason: Option<String>,
    seq: i32,
    input_tokens: i64,
    output_tokens: i64,
    cost_usd: f64,
}

async fn ends(db: &mut PgConnection, invocations: &mut BTreeMap<InvocationId, Invocation>) -> Result<(), sqlx::Error> {
    let rows: Vec<EndRow> = sqlx::query_as(
        "SELECT invocation, outcome, reason, seq, input_tokens, output_tokens, cost_usd FROM execution.ended",
    )
    .fetch_all(&mut *db)
    .await?;
    for row in rows {
        let ended = EndedRow {
            outcome: row.outcome,
            reason: row.reason,
            seq: u32::try_from(row.seq).unwrap_or_default(),
            usage: Usage {
                input_tokens: u64::try_from(row.input_tokens).unwrap_or_default(),
                output_tokens: u64::try_from(row.output_tokens).unwrap_or_default(),
                cost_usd: row.cost_usd,
            },
        };
        invocations.entry(of(row.invocation)).or_default().ended = Some(ended);
    }
    let rows: Vec<(Uuid, String)> = sqlx::query_as("SELECT invocation, state FROM execution.summary")
        .fetch_all(&mut *db)
        .await?;
    for (id, state) in rows {
        invocations.entry(of(id)).or_default().summary = Some(state);
    }
    Ok(())
}
