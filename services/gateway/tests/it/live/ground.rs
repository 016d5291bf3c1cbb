//! What live pushes come from: a feed of shards with its relay, which may lose and repeat, and EVENTS.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mesh_api::Caller;
use mesh_api::journal::{Accepted, Claimed, Fact, Record};
use mesh_api::live::{FeedNote, SHARDS, ShardFeed, ShardFeedPage, ShardFeedRequest, ShardHead, ShardPage};
use mesh_bus::{Bus, Headers, ServiceHandle};
use mesh_types::event::{self, Event};
use mesh_types::{AgentName, EventId, Id, InvocationId, Problem, Subject, Tenant};
use serde_json::{Value, json};

use crate::made::at;

/// Batches of one answer.
const PAGE: usize = 5;

#[derive(Default)]
struct Shards {
    /// Batches of each shard, from 1; a batch is what it committed.
    batches: Vec<Vec<Vec<FeedNote>>>,
    /// The highest batch of each that a message stands for.
    announced: Vec<u64>,
    /// The oldest batch that is kept, of every shard.
    oldest: u64,
    feed_id: String,
    count: u128,
}

/// The feed's side of `execution`, as the edge asks it.
#[derive(Clone)]
pub(super) struct Ground {
    bus: Bus,
    shards: Arc<Mutex<Shards>>,
}

impl Ground {
    pub(super) async fn start(bus: &Bus) -> (Self, ServiceHandle) {
        let shards = Shards {
            batches: vec![Vec::new(); usize::from(SHARDS)],
            announced: vec![0; usize::from(SHARDS)],
            oldest: 1,
            feed_id: "first".into(),
            count: 0,
        };
        let ground = Self {
            bus: bus.clone(),
            shards: Arc::new(Mutex::new(shards)),
        };
        let asked = ground.clone();
        let handle = bus
            .service("execution", "0.1.0")
            .endpoint::<ShardFeed, _, _>(move |_: Caller, request: ShardFeedRequest| {
                let answer = asked.read(&request);
                async move { Ok::<_, Problem>(answer) }
            })
            .start()
            .await
            .unwrap();
        (ground, handle)
    }

    fn read(&self, request: &ShardFeedRequest) -> ShardFeedPage {
        let shards = self.shards.lock().unwrap();
        let head = |shard: u16| ShardHead {
            shard,
            batch: shards.batches[usize::from(shard)].len() as u64,
            oldest: shards.oldest.min(shards.batches[usize::from(shard)].len() as u64 + 1),
        };
        let page = |mark: &mesh_api::live::ShardMark| {
            let batches = &shards.batches[usize::from(mark.shard)];
            let after = usize::try_from(mark.after).unwrap().min(batches.len());
            let to = (after + PAGE).min(batches.len());
            let notes = batches[after..to].iter().flatten().cloned();
            let ours = notes.filter(|note| request.tenant.as_ref().is_none_or(|tenant| *tenant == note.tenant));
            ShardPage {
                shard: mark.shard,
                to: to as u64,
                notes: ours.collect(),
            }
        };
        ShardFeedPage {
            feed_id: shards.feed_id.clone(),
            heads: (0..SHARDS).map(head).collect(),
            pages: request.after.iter().map(page).collect(),
        }
    }

    /// The database went back, and an operator accepted it.
    pub(super) fn another_feed(&self) {
        self.shards.lock().unwrap().feed_id = "second".into();
    }

    /// What is older than the newest batches is gone.
    pub(super) fn expire(&self, oldest: u64) {
        self.shards.lock().unwrap().oldest = oldest;
    }

    /// Commits a batch of so many records, each of an invocation of its own; answers their ids.
    pub(super) fn commit(&self, shard: u16, tenant: &Tenant, records: u32) -> Vec<InvocationId> {
        let mut shards = self.shards.lock().unwrap();
        let batch = shards.batches[usize::from(shard)].len() as u64 + 1;
        let mut ids = Vec::new();
        let mut notes = Vec::new();
        for ordinal in 0..records {
            shards.count += 1;
            let invocation = InvocationId::from_u128(shards.count);
            ids.push(invocation);
            let fact = if ordinal % 2 == 0 {
                Fact::Accepted(Accepted {
                    agent: "sofia".parse().unwrap(),
                    version: 1,
                    actor: "user:ann".into(),
                })
            } else {
                Fact::Claimed(Claimed {
                    holder: "here".into(),
                    incarnation: 1,
                })
            };
            notes.push(FeedNote {
                batch,
                ordinal,
                tenant: tenant.clone(),
                invocation,
                agent: "sofia".parse().unwrap(),
                version: 1,
                session: None,
                record: Record {
                    seq: 1,
                    epoch: 1,
                    at: at(),
                    fact,
                },
            });
        }
        shards.batches[usize::from(shard)].push(notes);
        ids
    }

    /// As [`Self::commit`], and tells it.
    pub(super) async fn committed(&self, shard: u16, tenant: &Tenant, records: u32) -> Vec<InvocationId> {
        let ids = self.commit(shard, tenant, records);
        self.relay(shard, |_| Fate::Told).await;
        ids
    }

    /// Publishes what is not announced, as the relay does: a message an invocation; `fate` decides of each.
    pub(super) async fn relay(&self, shard: u16, mut fate: impl FnMut(usize) -> Fate) {
        let (from, to, notes) = {
            let mut shards = self.shards.lock().unwrap();
            let of = usize::from(shard);
            let to = shards.batches[of].len() as u64;
            let from = std::mem::replace(&mut shards.announced[of], to) + 1;
            let new = &shards.batches[of][usize::try_from(from).unwrap() - 1..];
            (from, to, new.iter().flatten().cloned().collect::<Vec<_>>())
        };
        let count = notes.len();
        for (place, note) in notes.into_iter().enumerate() {
            let times = match fate(place) {
                Fate::Told => 1,
                Fate::Repeated => 2,
                Fate::Lost => 0,
            };
            let mut headers = Headers::new();
            headers.insert("Mesh-Shard", shard.to_string());
            headers.insert("Mesh-From-Batch", from.to_string());
            headers.insert("Mesh-To-Batch", to.to_string());
            headers.insert("Mesh-Part", format!("{}/{count}", place + 1));
            let subject = Subject::Journal {
                tenant: note.tenant.clone(),
                invocation: note.invocation,
            };
            let page = json!({
                "tenant": note.tenant, "invocation": note.invocation, "records": [note.record], "more": false,
                "agent": note.agent, "version": note.version, "places": [[note.batch, note.ordinal]],
            });
            for _ in 0..times {
                let payload = Bytes::from(page.to_string());
                self.bus.publish_with(&subject, headers.clone(), payload).await.unwrap();
            }
        }
        self.bus.flush().await.unwrap();
    }

    /// An event of EVENTS, stored.
    pub(super) async fn event(&self, tenant: &Tenant, actor: &str, fact: event::Fact) -> EventId {
        let id = {
            let mut shards = self.shards.lock().unwrap();
            shards.count += 1;
            EventId::from_u128(shards.count)
        };
        let event = Event {
            id,
            tenant: tenant.clone(),
            at: at(),
            actor: actor.into(),
            fact,
            change: None,
            request_id: None,
        };
        let payload = Bytes::from(serde_json::to_vec(&event).unwrap());
        let (subject, text) = (event.subject(), id.to_string());
        let stored = self.bus.publish_durable(&subject, &text, Headers::new(), payload);
        stored.await.unwrap();
        id
    }

    pub(super) async fn agent_created(&self, tenant: &Tenant, name: &str) -> EventId {
        let agent: AgentName = name.parse().unwrap();
        self.event(tenant, "user:ann", event::Fact::AgentCreated { agent })
            .await
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Told,
    Repeated,
    Lost,
}

/// What a push is about, whichever kind it is.
pub(super) fn id_of(push: &Value) -> String {
    push["data"]["id"].as_str().unwrap_or_default().to_owned()
}
