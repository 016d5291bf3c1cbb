//! The load: agents, clients, readers and a person, and what all of them were told.

mod agents;
mod clients;
mod person;
pub(crate) mod plan;
mod reader;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::evidence::{Asked, Followed};
use crate::ground::Ground;
use crate::options::With;
use clients::Poison;
use plan::Ask;

/// One bad message for so many good ones.
const POISON_EVERY: usize = 60;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    /// End with the load.
    others: JoinSet<()>,
}

struct Shared {
    seed: u64,
    http: reqwest::Client,
    base: String,
    nats: async_nats::Client,
    told: Mutex<Told>,
}

/// All that clients were told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) asked: BTreeMap<String, Asked>,
    pub(crate) poison: Vec<String>,
    pub(crate) followed: Vec<Followed>,
    pub(crate) replies: BTreeMap<String, Vec<Value>>,
}

impl Load {
    /// Declares the agents, once the mesh is up.
    pub(crate) async fn prepare(ground: &Arc<Ground>, seed: u64, with: &[With]) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .read_timeout(REQUEST_TIMEOUT)
            .build()?;
        let nats = async_nats::ConnectOptions::new()
            .retry_on_initial_connect()
            .reconnect_delay_callback(|_| Duration::from_millis(100))
            .connect(ground.nats_url())
            .await?;
        let base = ground.http.clone();
        agents::declare(&http, &base, &format!("{}/ledger", ground.fakes.base), with)
            .await
            .context("the mesh does not take the agents of the load")?;
        let shared = Arc::new(Shared {
            seed,
            http,
            base,
            nats,
            told: Mutex::default(),
        });
        let mut others = JoinSet::new();
        others.spawn(hear_results(Arc::clone(&shared)));
        others.spawn(person::decide(Arc::clone(&shared), Arc::clone(ground)));
        Ok(Self {
            shared,
            clients: JoinSet::new(),
            others,
        })
    }

    /// Sends all of it in its time; who is not done at `end` gives up.
    pub(crate) fn start(&mut self, asks: Vec<Ask>, end: Instant) {
        let began = Instant::now();
        for (number, ask) in asks.into_iter().enumerate() {
            self.shared.told().asked.insert(
                ask.key.clone(),
                Asked {
                    key: ask.key.clone(),
                    agent: ask.agent.to_owned(),
                    session: ask.session.clone(),
                    channel: ask.channel.clone(),
                    wants_reply: ask.wants_reply,
                    delay_ms: ask.body.get("delay_ms").and_then(Value::as_u64).unwrap_or(0),
                    ..Asked::default()
                },
            );
            let at = began + Duration::from_millis(ask.at_ms);
            if number % POISON_EVERY == POISON_EVERY / 2 {
                let (shared, marker) = (Arc::clone(&self.shared), format!("poison-{}-", ask.key));
                let kind = if number % (2 * POISON_EVERY) < POISON_EVERY {
                    Poison::Session
                } else {
                    Poison::Field
                };
                self.clients.spawn(async move {
                    tokio::time::sleep_until(at).await;
                    clients::poison(shared, marker, kind).await;
                });
            }
            let shared = Arc::clone(&self.shared);
            self.clients.spawn(async move {
                tokio::time::sleep_until(at).await;
                clients::ask(shared, ask, end).await;
            });
        }
    }

    /// Idempotency keys that somebody was told are accepted.
    pub(crate) fn accepted(&self) -> Vec<String> {
        let told = self.shared.told();
        let accepted = told.asked.values().filter(|asked| asked.accepted);
        accepted.map(|asked| asked.key.clone()).collect()
    }

    /// Bad messages that JetStream took.
    pub(crate) fn poison(&self) -> usize {
        self.shared.told().poison.len()
    }

    /// Whether every client is done.
    pub(crate) fn is_done(&mut self) -> bool {
        while self.clients.try_join_next().is_some() {}
        self.clients.is_empty()
    }

    pub(crate) fn told(&self) -> Told {
        self.shared.told().clone()
    }

    /// No client asks for anything any more.
    pub(crate) async fn stop(mut self) {
        self.clients.shutdown().await;
        self.others.shutdown().await;
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, key: &str, change: impl FnOnce(&mut Asked)) {
        if let Some(asked) = self.told().asked.get_mut(key) {
            change(asked);
        }
    }

    fn bury(&self, marker: String) {
        self.told().poison.push(marker);
    }

    fn followed(&self, followed: Followed) {
        self.told().followed.push(followed);
    }
}

/// Results on `mesh.reply.default.<key>`.
async fn hear_results(shared: Arc<Shared>) {
    let Ok(mut results) = shared.nats.subscribe("mesh.reply.default.>").await else {
        return;
    };
    while let Some(message) = results.next().await {
        let key = message.subject.rsplit('.').next().unwrap_or_default().to_owned();
        let result = serde_json::from_slice(&message.payload).unwrap_or_default();
        shared.told().replies.entry(key).or_default().push(result);
    }
}
