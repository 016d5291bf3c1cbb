//! What calls took, told to the mesh: one event for each try that a provider counted, and the metrics beside it.
//!
//! The journal's `usage` of a step is the durable truth, as it is written with the answer in one transaction. These
//! events are for those who watch spending as it happens, and they also hold what the journal does not: tries that
//! failed after their provider had counted, and calls of no invocation. `inference` has no database, so they wait in a
//! bounded queue in memory until the stream has acknowledged them: a process that dies takes with it what it held, and
//! a queue that is full lets go and counts it (`mesh.model.uses.lost`). A try's event has one id wherever it is made:
//! within the stream's duplicate window it is stored once, and who adds up later does so by id.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use mesh_api::Caller;
use mesh_bus::{Bus, Headers};
use mesh_models::Tokens;
use mesh_runtime::metrics::Counter;
use mesh_runtime::{Context, MetricName};
use mesh_types::event::{Event, Fact, ModelUse};
use mesh_types::{AgentName, EventId, Id, IdSource, InvocationId};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::prices::{Prices, Unpriced};

/// Events that wait to be stored.
const QUEUE_MAX: usize = 8_192;
/// Events on their way at once.
const PUBLISHING_MAX: usize = 32;

/// What a call was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Chat,
    Embedding,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embedding => "embedding",
        }
    }
}

/// Whose call it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account<'a> {
    pub(crate) caller: &'a Caller,
    /// `<invocation>/<step>` for the calls of invocations.
    pub(crate) idempotency_key: Option<&'a str>,
    /// SHA-256 of what is asked: another question under the same key is another call, and paid for apart.
    pub(crate) asked: Option<[u8; 32]>,
    pub(crate) agent: Option<&'a AgentName>,
    pub(crate) purpose: Purpose,
}

/// One try, or one whole call where tries are not told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used<'a> {
    pub(crate) provider: &'a str,
    /// As the provider knows it.
    pub(crate) model: &'a str,
    /// Counted over the step, from 1.
    pub(crate) attempt: u32,
    pub(crate) tokens: &'a Tokens,
    /// Answered in this process, such as by the mock: measured, and no event.
    pub(crate) is_local: bool,
}

/// Counts what calls took. The other end of its queue is [`Uses`].
pub(crate) struct Publisher {
    prices: Prices,
    context: Context,
    /// `None` once it is closed.
    queue: Mutex<Option<mpsc::Sender<Event>>>,
    tokens: Counter,
    cost: Counter,
    unpriced: Counter,
    lost: Counter,
}

/// The events that wait, and what publishes them.
pub(crate) struct Uses {
    queue: mpsc::Receiver<Event>,
    bus: Bus,
    published: Counter,
    lost: Counter,
}

impl Publisher {
    pub(crate) fn new(config: &Config, context: &Context) -> (Self, Uses) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let counter = |name| context.metrics.counter(name);
        let publisher = Self {
            prices: Prices::new(config),
            context: context.clone(),
            queue: Mutex::new(Some(sender)),
            tokens: counter(MetricName::ModelTokens),
            cost: counter(MetricName::ModelCost),
            unpriced: counter(MetricName::ModelUnpriced),
            lost: counter(MetricName::ModelUsesLost),
        };
        let uses = Uses {
            queue: receiver,
            bus: context.bus.clone(),
            published: counter(MetricName::EventsPublished),
            lost: counter(MetricName::ModelUsesLost),
        };
        (publisher, uses)
    }

    /// Counts one try and queues its event; answers what it cost in US dollars, 0 where the model has no price. Never
    /// waits.
    pub(crate) fn used(&self, account: Account<'_>, used: Used<'_>) -> f64 {
        let Used {
            provider,
            model,
            attempt,
            tokens,
            is_local,
        } = used;
        self.tokens
            .add(tokens.input, &[("provider", provider), ("direction", "input")]);
        self.tokens
            .add(tokens.output, &[("provider", provider), ("direction", "output")]);
        let cost_usd = self.prices.cost_usd(provider, model, tokens);
        if is_local {
            return cost_usd;
        }
        self.cost.add(micros(cost_usd), &[("provider", provider)]);
        match self.prices.is_news(provider, model) {
            Unpriced::No => {}
            Unpriced::FirstTime => {
                self.unpriced.add(1, &[("provider", provider)]);
                tracing::warn!(
                    provider,
                    model,
                    "this model has no price: set one in `inference.prices`"
                );
            }
            Unpriced::Again => self.unpriced.add(1, &[("provider", provider)]),
        }
        let (invocation, step) = of_key(account.idempotency_key).unzip();
        let fact = ModelUse {
            invocation,
            step,
            attempt,
            agent: account.agent.cloned(),
            provider: provider.to_owned(),
            model: model.to_owned(),
            purpose: account.purpose.as_str().to_owned(),
            input_tokens: tokens.input,
            cached_tokens: tokens.cached,
            output_tokens: tokens.output,
            cost_usd,
        };
        self.queue(account, fact);
        cost_usd
    }

    fn queue(&self, account: Account<'_>, fact: ModelUse) {
        let event = Event {
            request_id: None,
            change: None,
            id: event_id(&account, &fact, &self.context.ids),
            tenant: account.caller.tenant.clone(),
            at: self.context.clock.now(),
            actor: account.caller.actor.clone(),
            fact: Fact::ModelUsed(Box::new(fact)),
        };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let is_queued = queue.as_ref().is_some_and(|queue| queue.try_send(event).is_ok());
        if !is_queued {
            self.lost.add(1, &[]);
            tracing::warn!("a usage event found no room; the journal has the usage of the step");
        }
    }

    /// Nothing more is taken; [`Uses::publish`] ends after what it has.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Uses {
    /// Publishes until the publisher is closed and all is stored, or given up after the bus has tried for half a minute.
    pub(crate) async fn publish(self) {
        let Self {
            queue,
            bus,
            published,
            lost,
        } = self;
        let events = futures::stream::unfold(queue, |mut queue| async move {
            let event = queue.recv().await?;
            Some((event, queue))
        });
        let publish = |event: Event| {
            let (bus, published, lost) = (&bus, &published, &lost);
            async move {
                match publish_one(bus, &event).await {
                    Ok(()) => published.add(1, &[("event", "model.used")]),
                    Err(error) => {
                        lost.add(1, &[]);
                        tracing::warn!(error, event = %event.id, "a usage event was not stored");
                    }
                }
            }
        };
        events.for_each_concurrent(PUBLISHING_MAX, publish).await;
    }
}

async fn publish_one(bus: &Bus, event: &Event) -> Result<(), String> {
    let body = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    let mut headers = Headers::new();
    headers.insert(Headers::MESH_TENANT, event.tenant.as_str());
    headers.insert(Headers::MESH_ACTOR, &event.actor);
    let (subject, id) = (event.subject(), event.id.to_string());
    let stored = bus.publish_durable(&subject, &id, headers, Bytes::from(body));
    stored.await.map(drop).map_err(|error| error.to_string())
}

/// The invocation and the step that a key names.
fn of_key(key: Option<&str>) -> Option<(InvocationId, u32)> {
    let (invocation, step) = key?.split_once('/')?;
    Some((invocation.parse().ok()?, step.parse().ok()?))
}

/// The same for the same try of the same call, wherever it runs, so that the stream and whoever counts take it once; a
/// call without a key is itself only.
fn event_id(account: &Account<'_>, fact: &ModelUse, ids: &IdSource) -> EventId {
    let Some(key) = account.idempotency_key else {
        return ids.next();
    };
    let attempt = fact.attempt.to_string();
    let parts = [
        account.caller.tenant.as_str(),
        key,
        &attempt,
        &fact.purpose,
        &fact.provider,
        &fact.model,
    ];
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts read the same.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(account.asked.unwrap_or_default());
    let digest = hash.finalize();
    let bytes: [u8; 16] = digest[..16].try_into().expect("a SHA-256 has 32 bytes");
    EventId::from_u128(u128::from_be_bytes(bytes))
}

/// Millionths of a dollar, as counters have no fractions.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cost is never negative, and a float saturates"
)]
fn micros(dollars: f64) -> u64 {
    (dollars * 1e6).round() as u64
}

#[cfg(test)]
mod tests;
