//! Steps along a chain of forks: an invocation shows those that it inherits as if they were its own. Small reads
//! first (which records there are, how long they are), bodies only where they are wanted.

use mesh_api::journal::{Begun, Done, Effect, Fact, Record, StepKind, Usage};
use mesh_store::IdExt;
use mesh_types::{InvocationId, Timestamp};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::body::{self, RecordRow};

/// An invocation of the chain, with the steps that it is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) id: InvocationId,
    /// Its steps below this one.
    pub(crate) below: u32,
}

/// The invocation itself, then its source, then the source's source. Empty: there is no such invocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) links: Vec<Link>,
    root: Uuid,
    pub(crate) shard: u16,
}

/// Forks of forks of forks.
const CHAIN: &str = "
WITH RECURSIVE chain AS (
    SELECT i.id, i.root, i.shard, i.fork_of, i.fork_step, 2147483647 AS below, 0 AS place
    FROM execution.invocation i WHERE i.id = $1
    UNION ALL
    SELECT i.id, i.root, i.shard, i.fork_of, i.fork_step, least(c.below, c.fork_step), c.place + 1
    FROM chain c JOIN execution.invocation i ON i.id = c.fork_of
    WHERE c.place < 255
)
SELECT id, root, shard, below FROM chain ORDER BY place";

pub(crate) async fn chain(connection: &mut PgConnection, id: InvocationId) -> Result<Chain, sqlx::Error> {
    let rows: Vec<(Uuid, Uuid, i16, i32)> = sqlx::query_as(CHAIN).bind(id.to_uuid()).fetch_all(connection).await?;
    let first = rows.first().map(|(_, root, shard, _)| (*root, shard.cast_unsigned()));
    let (root, shard) = first.unwrap_or_default();
    let link = |(id, _, _, below): (Uuid, Uuid, i16, i32)| Link {
        id: InvocationId::from_uuid(id),
        below: below.cast_unsigned(),
    };
    Ok(Chain {
        links: rows.into_iter().map(link).collect(),
        root,
        shard,
    })
}

impl Chain {
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Who recorded the step, or would.
    pub(crate) fn recorder(&self, step: u32) -> Option<InvocationId> {
        let holds = |link: &&Link| step < link.below;
        self.links.iter().rev().find(holds).map(|link| link.id)
    }

    fn ids(&self) -> Vec<Uuid> {
        self.links.iter().map(|link| link.id.to_uuid()).collect()
    }

    fn below(&self) -> Vec<i32> {
        self.links.iter().map(|link| link.below.cast_signed()).collect()
    }
}

/// A record of a step, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    id: Uuid,
    seq: i32,
    pub(crate) step: u32,
    /// Bytes of its body.
    pub(crate) size: usize,
}

#[derive(Debug, FromRow)]
struct PlaceRow {
    invocation: Uuid,
    seq: i32,
    step: i32,
    size: i64,
}

impl From<PlaceRow> for Place {
    fn from(row: PlaceRow) -> Self {
        Self {
            id: row.invocation,
            seq: row.seq,
            step: row.step.cast_unsigned(),
            size: usize::try_from(row.size).unwrap_or(0),
        }
    }
}

/// The highest step that has a record; 0: none has.
pub(crate) async fn last_step(connection: &mut PgConnection, chain: &Chain) -> Result<u32, sqlx::Error> {
    let last: Option<i32> = sqlx::query_scalar(
        "SELECT max(r.step) FROM unnest($1::uuid[], $2::int4[]) AS c(id, below)
         JOIN execution.record r ON r.invocation = c.id AND r.step < c.below",
    )
    .bind(chain.ids())
    .bind(chain.below())
    .fetch_one(connection)
    .await?;
    Ok(last.unwrap_or_default().cast_unsigned())
}

/// Records of the steps above `after` up to `to`, step by step, those of a step oldest first.
pub(crate) async fn places(
    connection: &mut PgConnection,
    chain: &Chain,
    after: u32,
    to: u32,
) -> Result<Vec<Place>, sqlx::Error> {
    let rows: Vec<PlaceRow> = sqlx::query_as(
        "SELECT r.invocation, r.seq, r.step, coalesce(octet_length(r.body), (
             SELECT sum(octet_length(b.bytes)) FROM execution.body b WHERE b.root = $3 AND b.hash = r.body_hash
         ), 0)::int8 AS size
         FROM unnest($1::uuid[], $2::int4[]) AS c(id, below)
         JOIN execution.record r ON r.invocation = c.id AND r.step < c.below AND r.step > $4 AND r.step <= $5
         ORDER BY r.step, r.seq",
    )
    .bind(chain.ids())
    .bind(chain.below())
    .bind(chain.root)
    .bind(int(after))
    .bind(int(to))
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Place::from).collect())
}

/// Of each model step up to `to` the records that hold its input and its answer, in the order of the steps.
pub(crate) async fn prompts(connection: &mut PgConnection, chain: &Chain, to: u32) -> Result<Vec<Place>, sqlx::Error> {
    // The kind stands near the beginning of each body, by the order of the fields.
    let rows: Vec<PlaceRow> = sqlx::query_as(
        "SELECT r.invocation, r.seq, r.step, coalesce(octet_length(r.body), (
             SELECT sum(octet_length(b.bytes)) FROM execution.body b WHERE b.root = $3 AND b.hash = r.body_hash
         ), 0)::int8 AS size
         FROM unnest($1::uuid[], $2::int4[]) AS c(id, below)
         JOIN execution.record r ON r.invocation = c.id AND r.step < c.below AND r.step <= $4
         WHERE position($5::bytea IN coalesce(substring(r.body FROM 1 FOR 80), (
             SELECT substring(b.bytes FROM 1 FOR 80) FROM execution.body b
             WHERE b.root = $3 AND b.hash = r.body_hash AND b.part = 0
         ))) > 0
         ORDER BY r.step, r.seq",
    )
    .bind(chain.ids())
    .bind(chain.below())
    .bind(chain.root)
    .bind(int(to))
    .bind(&br#""kind":"model""#[..])
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Place::from).collect())
}

/// Those records, in their order.
pub(crate) async fn records(connection: &mut PgConnection, places: &[Place]) -> Result<Vec<Record>, sqlx::Error> {
    let rows: Vec<RecordRow> = sqlx::query_as(
        "SELECT r.invocation, r.seq, r.epoch, r.at, r.body, r.body_hash
         FROM unnest($1::uuid[], $2::int4[]) WITH ORDINALITY AS p(id, seq, place)
         JOIN execution.record r ON r.invocation = p.id AND r.seq = p.seq
         ORDER BY p.place",
    )
    .bind(places.iter().map(|place| place.id).collect::<Vec<_>>())
    .bind(places.iter().map(|place| place.seq).collect::<Vec<_>>())
    .fetch_all(&mut *connection)
    .await?;
    body::to_records(connection, rows).await
}

/// Bytes of a body in which kind and name are found.
const HEAD_BYTES: i32 = 1_024;

#[derive(Debug, FromRow)]
struct HeadRow {
    seq: i32,
    step: i32,
    kind: String,
    class: Option<String>,
    at: chrono::DateTime<chrono::Utc>,
    head: Option<Vec<u8>>,
}

/// All `begun` and `done` records without input, output and error: what the plan of a fork needs, in one read.
pub(crate) async fn heads(connection: &mut PgConnection, chain: &Chain) -> Result<Vec<Record>, sqlx::Error> {
    let rows: Vec<HeadRow> = sqlx::query_as(
        "SELECT r.seq, r.step, r.kind, r.class, r.at, coalesce(substring(r.body FROM 1 FOR $4), (
             SELECT substring(b.bytes FROM 1 FOR $4) FROM execution.body b
             WHERE b.root = $3 AND b.hash = r.body_hash AND b.part = 0
         )) AS head
         FROM unnest($1::uuid[], $2::int4[]) AS c(id, below)
         JOIN execution.record r ON r.invocation = c.id AND r.step < c.below
         ORDER BY r.step, r.seq",
    )
    .bind(chain.ids())
    .bind(chain.below())
    .bind(chain.root)
    .bind(HEAD_BYTES)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(HeadRow::record).collect()
}

impl HeadRow {
    fn record(self) -> Result<Record, sqlx::Error> {
        let bad = || sqlx::Error::Decode(format!("record {} has no kind of step", self.seq).into());
        let Head { kind, name } = head(self.head.as_deref().unwrap_or_default());
        let kind = kind.ok_or_else(bad)?;
        let name = name.unwrap_or_else(|| "…".into());
        let step = self.step.cast_unsigned();
        let effect = match self.class.as_deref() {
            Some("pure") => Effect::Pure,
            Some("idempotent") => Effect::Idempotent,
            _ => Effect::AtMostOnce,
        };
        let at = Timestamp::from(self.at);
        let fact = if self.kind == "done" {
            Fact::Done(Box::new(Done {
                step,
                kind,
                name,
                effect,
                input: None,
                output: None,
                error: None,
                usage: Usage::default(),
                attempt: 1,
                started_at: at,
                ended_at: at,
            }))
        } else {
            Fact::Begun(Begun {
                step,
                kind,
                name,
                effect,
                input: Value::Null,
            })
        };
        Ok(Record {
            seq: self.seq.cast_unsigned(),
            epoch: 0,
            at,
            fact,
        })
    }
}

/// The first fields of a fact.
#[derive(Debug, Default)]
struct Head {
    kind: Option<StepKind>,
    name: Option<String>,
}

/// Of a body that may be cut: what can be read of it.
fn head(bytes: &[u8]) -> Head {
    let mut head = Head::default();
    // Cut, or left at the name: neither is a mistake.
    let _ = HeadSeed(&mut head).deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    head
}

struct HeadSeed<'a>(&'a mut Head);

impl<'de> DeserializeSeed<'de> for HeadSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeadSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a fact")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            Kind,
            Name,
            #[serde(other)]
            Other,
        }
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Kind => self.0.kind = Some(map.next_value()?),
                Field::Name => {
                    self.0.name = Some(map.next_value()?);
                    break;
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;

    use super::*;

    fn done(name: &str) -> Fact {
        Fact::Done(Box::new(Done {
            step: 4_000_000_000,
            kind: StepKind::Model,
            name: name.into(),
            effect: Effect::Idempotent,
            input: Some(serde_json::json!({"kind": "tool", "name": "no"})),
            output: None,
            error: None,
            usage: Usage::default(),
            attempt: 1,
            started_at: Timestamp::EPOCH,
            ended_at: Timestamp::EPOCH,
        }))
    }

    #[test]
    fn kind_and_name_stand_at_the_beginning_of_a_body() {
        let body = serde_json::to_vec(&done("g\"p\u{0}t")).unwrap();
        for cut in [body.len(), 110] {
            let head = head(&body[..cut]);
            assert_eq!(
                (head.kind, head.name.as_deref()),
                (Some(StepKind::Model), Some("g\"p\u{0}t"))
            );
        }
        let start = String::from_utf8(body[..80].to_vec()).unwrap();
        assert!(start.contains(r#""kind":"model""#), "{start}");
        let head = head(&serde_json::to_vec(&done(&"x".repeat(2_000))).unwrap()[..1_024]);
        assert_eq!((head.kind, head.name), (Some(StepKind::Model), None));
    }

    #[test]
    fn each_step_has_one_recorder() {
        let id = |n| InvocationId::from_u128(n);
        let link = |n, below| Link { id: id(n), below };
        let chain = Chain {
            links: vec![link(3, u32::MAX), link(2, 5), link(1, 3)],
            ..Chain::default()
        };
        let recorders: Vec<_> = (1..=6).filter_map(|step| chain.recorder(step)).collect();
        assert_eq!(recorders, [id(1), id(1), id(2), id(2), id(3), id(3)]);
    }
}
