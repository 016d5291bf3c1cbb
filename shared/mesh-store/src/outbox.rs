//! The outbox: a fact is committed with the change it tells of, in the writer's own schema, and published afterwards.
//! At least once; the event's id is its `Nats-Msg-Id`, and readers are idempotent. How to publish is the caller's.

use std::time::Duration;

use futures::StreamExt as _;
use mesh_types::Timestamp;
use mesh_types::event::Event;
use sqlx::{PgConnection, PgPool};

use crate::id::IdExt as _;
use crate::tenant::every_tenant_tx;

/// Events read in one pass.
const BATCH: i64 = 256;
/// Events on their way at once; they are sent in their order.
const IN_FLIGHT: usize = 32;
/// How long a published event stays, for whoever has to read one again.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// The table `event` of one schema.
#[derive(Debug, Clone, Copy)]
pub struct Outbox {
    append: &'static str,
    read: &'static str,
    mark: &'static str,
    prune: &'static str,
}

macro_rules! outbox {
    ($schema:literal) => {
        Outbox {
            append: concat!(
                "INSERT INTO ",
                $schema,
                ".event (tenant, id, body, at) VALUES ($1, $2, $3, $4)"
            ),
            read: concat!(
                "SELECT position, body FROM ",
                $schema,
                ".event WHERE published_at IS NULL ORDER BY position LIMIT $1"
            ),
            mark: concat!(
                "UPDATE ",
                $schema,
                ".event SET published_at = $2 WHERE position = ANY($1)"
            ),
            prune: concat!("DELETE FROM ", $schema, ".event WHERE published_at < $1"),
        }
    };
}

/// One event that waits to be published.
#[derive(Debug, Clone)]
pub struct Pending {
    pub event: Event,
    /// Its JSON as it was committed; what goes out.
    pub body: String,
}

/// What one pass of the relay did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayReport {
    pub published: usize,
    /// These wait for the next pass.
    pub failed: usize,
    /// Whether more was waiting than one pass takes.
    pub more: bool,
    /// The first failure.
    pub error: Option<String>,
}

impl Outbox {
    pub const REGISTRY: Self = outbox!("registry");
    pub const MESSAGING: Self = outbox!("messaging");
    pub const MEMORY: Self = outbox!("memory");
    pub const IDENTITY: Self = outbox!("identity");
    pub const HEARTBEAT: Self = outbox!("heartbeat");
    pub const RECONCILER: Self = outbox!("reconciler");
    /// What of execution stands in no journal.
    pub const EXECUTION: Self = outbox!("execution");

    /// Adds a fact to the transaction that makes it true; the transaction must be of the event's tenant.
    pub async fn append(&self, tx: &mut PgConnection, event: &Event) -> Result<(), sqlx::Error> {
        let body = serde_json::to_string(event).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        sqlx::query(self.append)
            .bind(event.tenant.as_str())
            .bind(event.id.to_uuid())
            .bind(body)
            .bind(event.at.to_chrono())
            .execute(tx)
            .await
            .map(|_| ())
    }

    /// One pass: publishes what waits, oldest first, and marks what went out. Safe to drop in between: what is not
    /// marked is published again, as is what a second process publishes; an event's id tells. `last_pruned` is the
    /// caller's memory of this function, `None` at first.
    pub async fn relay<P, F>(
        &self,
        pool: &PgPool,
        now: Timestamp,
        last_pruned: &mut Option<Timestamp>,
        publish: P,
    ) -> Result<RelayReport, sqlx::Error>
    where
        P: Fn(Pending) -> F,
        F: Future<Output = Result<(), String>>,
    {
        let rows = self.unpublished(pool).await?;
        let mut report = RelayReport {
            more: rows.len() == usize::try_from(BATCH).unwrap_or(0),
            ..RelayReport::default()
        };
        let sent = rows.into_iter().map(|(position, body)| {
            let event = serde_json::from_str::<Event>(&body);
            let sending = event.map(|event| publish(Pending { event, body }));
            async move {
                match sending {
                    Ok(sending) => sending.await.map(|()| position),
                    Err(error) => Err(format!("event {position} cannot be read: {error}")),
                }
            }
        });
        let results: Vec<_> = futures::stream::iter(sent).buffered(IN_FLIGHT).collect().await;
        let mut published = Vec::new();
        for result in results {
            match result {
                Ok(position) => published.push(position),
                Err(error) => {
                    report.failed += 1;
                    report.error.get_or_insert(error);
                }
            }
        }
        report.published = published.len();
        // What fails is tried at the next bell or tick, not at once and for ever.
        report.more &= report.published > 0;
        if !published.is_empty() {
            self.mark(pool, published, now).await?;
        }
        if last_pruned.is_none_or(|at| now.since(at) >= PRUNE_EVERY) {
            self.prune(pool, now).await?;
            *last_pruned = Some(now);
        }
        Ok(report)
    }

    async fn unpublished(&self, pool: &PgPool) -> Result<Vec<(i64, String)>, sqlx::Error> {
        let mut tx = every_tenant_tx(pool).await?;
        let rows = sqlx::query_as(self.read).bind(BATCH).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok(rows)
    }

    async fn mark(&self, pool: &PgPool, published: Vec<i64>, now: Timestamp) -> Result<(), sqlx::Error> {
        let mut tx = every_tenant_tx(pool).await?;
        sqlx::query(self.mark)
            .bind(published)
            .bind(now.to_chrono())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }

    async fn prune(&self, pool: &PgPool, now: Timestamp) -> Result<(), sqlx::Error> {
        let kept = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp::from_micros(now.as_micros().saturating_sub(kept));
        let mut tx = every_tenant_tx(pool).await?;
        sqlx::query(self.prune)
            .bind(before.to_chrono())
            .execute(&mut *tx)
            .await?;
        tx.commit().await
    }
}
