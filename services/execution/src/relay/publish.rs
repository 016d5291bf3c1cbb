//! What the relay publishes: one JOURNAL message an invocation and pass, results to `reply_to`, dead ends.

use std::collections::HashMap;
use std::time::Duration;

use mesh_api::execution::Invocation;
use mesh_api::journal::{Fact, JournalPageRef, Outcome};
use mesh_bus::Headers;
use mesh_runtime::fail_point;
use mesh_types::{Subject, Token};

use super::{Relay, Told};
use crate::core::open::view_ended;
use crate::core::{EndRow, Meta};
use crate::shards::ShardId;
use crate::steps;

/// A shard's mark in JOURNAL is for noticing a database that went back; once in a while is enough.
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Results are sent again over a new connection; their receivers take each at least once.
const RESULT_TRIES: u32 = 3;
const CONNECTED_WAIT: Duration = Duration::from_secs(2);

pub(crate) const SHARD: &str = "Mesh-Shard";
/// First and last batch that the messages of one shard and pass stand for.
pub(crate) const FROM_BATCH: &str = "Mesh-From-Batch";
/// Which of those messages it is, from 1, and how many they are: `2/5`.
pub(crate) const PART: &str = "Mesh-Part";
/// Id of the feed that the batches are counted in.
pub(crate) const FEED: &str = "Mesh-Feed";
pub(crate) const TO_BATCH: &str = "Mesh-To-Batch";

impl Relay {
    /// `false`: stopped before anything was sent.
    pub(super) async fn publish(&mut self, told: &[Told], reached: &HashMap<ShardId, i64>) -> bool {
        // JOURNAL may lose what is published into a broken connection, results may not: wait for it.
        while !self.bus.wait_connected(CONNECTED_WAIT).await {
            if self.stop.is_cancelled() {
                return false;
            }
            tracing::warn!("NATS is away; committed records wait for it");
        }
        fail_point!(async "execution.relay.before");
        self.publish_records(told, reached).await;
        for _ in 0..RESULT_TRIES {
            let before = self.connections();
            let mut must_arrive = false;
            for told in told {
                must_arrive |= self.publish_end(told).await;
            }
            if !must_arrive {
                break;
            }
            let flushed = self.bus.flush().await;
            if flushed.is_ok() && before == self.connections() {
                break;
            }
            tracing::warn!("the connection broke while results were sent; sending them again");
        }
        fail_point!(async "execution.relay.after");
        true
    }

    fn connections(&self) -> u64 {
        *self.bus.reconnects().borrow()
    }

    /// One message an invocation; together they stand for every batch of their shard since the last that were sent.
    async fn publish_records(&mut self, told: &[Told], reached: &HashMap<ShardId, i64>) {
        let mut counts: HashMap<ShardId, (usize, usize)> = HashMap::new();
        for told in told {
            counts.entry(told.meta.shard).or_default().1 += 1;
        }
        for told in told {
            let shard = told.meta.shard;
            let Some((to, (number, of))) = reached.get(&shard).copied().zip(counts.get_mut(&shard)) else {
                continue;
            };
            *number += 1;
            let before = self.announced.get(&shard).copied();
            let from = before.unwrap_or_else(|| self.marks.get(shard)) + 1;
            let mut headers = Headers::new();
            headers.insert(SHARD, shard.to_string());
            headers.insert(FROM_BATCH, from.to_string());
            headers.insert(TO_BATCH, to.to_string());
            headers.insert(PART, format!("{number}/{of}"));
            self.publish_one(told, headers).await;
        }
        for shard in counts.into_keys() {
            reached.get(&shard).map(|to| self.announced.insert(shard, *to));
        }
    }

    async fn publish_one(&self, told: &Told, headers: Headers) {
        let meta = &told.meta;
        let page = JournalPageRef {
            tenant: &meta.tenant,
            invocation: meta.id,
            records: &told.records,
            more: false,
            agent: &meta.agent,
            version: meta.version,
            session: meta.session.as_deref(),
            places: &told.places,
        };
        let subject = Subject::Journal {
            tenant: meta.tenant.clone(),
            invocation: meta.id,
        };
        let payload = serde_json::to_vec(&page).unwrap_or_default();
        if let Err(error) = self.bus.publish_with(&subject, headers, payload.into()).await {
            tracing::warn!(%error, invocation = %meta.id, "its records are not in JOURNAL; readers take them from the feed");
        }
    }

    /// Sends the result where the caller asked for it, and a dead end to the dead letters.
    async fn publish_end(&self, told: &Told) -> bool {
        let Some((ended, record)) = told.records.iter().rev().find_map(|record| match &record.fact {
            Fact::Ended(ended) => Some((ended, record)),
            _ => None,
        }) else {
            return false;
        };
        let meta = &told.meta;
        let row = EndRow {
            outcome: ended.outcome,
            reason: ended.reason.clone(),
            provider: ended.provider.clone(),
            epoch: record.epoch,
            seq: record.seq,
            started_at: told.summary.as_ref().and_then(|summary| summary.started_at),
            ended_at: record.at,
            usage: ended.usage,
            output: ended.output.clone(),
            error: ended.error.clone(),
        };
        if ended.outcome == Outcome::Dead {
            self.publish_dead(meta, &row).await;
        }
        let Some(reply_to) = &meta.reply_to else {
            return false;
        };
        match mesh_types::subject::parse_reply_to(reply_to, &meta.tenant) {
            Ok(subject) => {
                let payload = serde_json::to_vec(&self.answer(meta, &row).await).unwrap_or_default();
                let mut headers = Headers::new();
                headers.insert_trace(meta.input.place().as_ref());
                if let Some(problem) = &row.error {
                    headers.insert(Headers::NATS_SERVICE_ERROR, &problem.title);
                    headers.insert(Headers::NATS_SERVICE_ERROR_CODE, problem.status.to_string());
                }
                if let Err(error) = self.bus.publish_with(&subject, headers, payload.into()).await {
                    tracing::warn!(%error, invocation = %meta.id, "its result could not be sent to reply_to");
                }
            }
            // Checked when it was accepted; what an older version took is not sent anywhere unchecked.
            Err(error) => tracing::warn!(%error, invocation = %meta.id, "its reply_to is refused"),
        }
        true
    }

    /// With its steps, where the request said so.
    async fn answer(&self, meta: &Meta, row: &EndRow) -> Invocation {
        let mut answer = view_ended(meta, row);
        if meta.input.intermediate_steps {
            let read = async {
                let mut connection = self.pool.acquire().await?;
                steps::attach(&mut connection, &mut answer).await
            };
            if let Err(error) = read.await {
                tracing::warn!(%error, invocation = %meta.id, "its result is sent without its steps; they can be read");
            }
        }
        answer
    }

    async fn publish_dead(&self, meta: &Meta, row: &EndRow) {
        let Ok(origin) = "invocation".parse::<Token>() else {
            return;
        };
        let subject = Subject::Dead {
            tenant: meta.tenant.clone(),
            origin,
        };
        let payload = serde_json::to_vec(&view_ended(meta, row)).unwrap_or_default();
        let id = meta.id.to_string();
        if let Err(error) = self
            .bus
            .publish_durable(&subject, &id, Headers::new(), payload.into())
            .await
        {
            tracing::error!(%error, invocation = %meta.id, "not in DEAD_LETTERS; it stands in the table");
        }
    }

    pub(super) async fn publish_mark(&mut self, shard: ShardId, batch: i64) {
        let now = tokio::time::Instant::now();
        if self
            .marked
            .get(&shard)
            .is_some_and(|last| now.duration_since(*last) < MARK_EVERY)
        {
            return;
        }
        self.marked.insert(shard, now);
        let mut headers = Headers::new();
        headers.insert(SHARD, shard.to_string());
        headers.insert(TO_BATCH, batch.to_string());
        if let Some(feed_id) = self.feeds.get(&shard) {
            headers.insert(FEED, feed_id);
        }
        // Lost marks only make the check of a takeover weaker for a second.
        let _ = self
            .bus
            .publish_with(&Subject::JournalMark { shard }, headers, bytes::Bytes::new())
            .await;
    }
}
