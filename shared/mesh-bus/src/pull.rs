//! Pulling from a durable consumer, one batch at a time, nothing ahead: what waits in a client
//! would be late for whoever takes over.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::{Bus, BusError, ConsumerSpec, Delivery, Settled};

/// How long a sweep of what is there may take before the request counts as lost.
const SWEEP_DEADLINE: Duration = Duration::from_secs(2);
/// What the server's own expiry may be late.
const EXPIRY_GRACE: Duration = Duration::from_secs(1);

/// Pulls from one durable consumer.
#[derive(Debug)]
pub struct Puller {
    bus: Bus,
    spec: ConsumerSpec,
    inbox: String,
    messages: Subscriber,
    connections: watch::Receiver<u64>,
    arrived: VecDeque<Delivery>,
    asked: Option<Asked>,
    requests: u64,
}

/// The request that is on its way.
#[derive(Debug)]
struct Asked {
    /// Where its end is told.
    reply: String,
    kind: Kind,
    left: usize,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All that is there now.
    Sweep,
    /// One message, when it comes.
    Wait,
}

/// What a message did to the request.
#[derive(PartialEq, Eq)]
enum Step {
    Goes,
    Ended(Kind),
}

impl Bus {
    /// A puller on a durable consumer, which is created or updated to the specification.
    ///
    /// # Errors
    /// When JetStream refuses the consumer or does not answer.
    pub async fn pull(&self, consumer: ConsumerSpec) -> Result<Puller, BusError> {
        self.ensure_consumer(&consumer).await?;
        let inbox = self.client().new_inbox();
        let messages = self.subscribe_at(format!("{inbox}.*"), None).await?;
        let mut connections = self.connections();
        connections.mark_unchanged();
        Ok(Puller {
            bus: self.clone(),
            spec: consumer,
            inbox,
            messages,
            connections,
            arrived: VecDeque::new(),
            asked: None,
            requests: 0,
        })
    }
}

impl Puller {
    /// What is there, up to `max` messages in stream order; when there is nothing, the first that
    /// comes within `wait` and what came with it; else an empty batch. Empty, too, when the
    /// connection was made anew. Dropping the future loses nothing: the next call goes on.
    ///
    /// # Errors
    /// When the consumer does not answer or is gone; [`Puller::repair`] creates it again.
    pub async fn next_batch(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, BusError> {
        let end = Instant::now() + wait;
        let mut next = Kind::Sweep;
        loop {
            if self.arrived.len() >= max {
                return Ok(self.drain(max));
            }
            if self.asked.is_none() {
                self.send_request(next, max - self.arrived.len(), end).await?;
            }
            match self.step().await? {
                Step::Goes => {}
                // Something came: fetch what came with it.
                Step::Ended(Kind::Wait) if !self.arrived.is_empty() => next = Kind::Sweep,
                Step::Ended(Kind::Sweep) if self.arrived.is_empty() && Instant::now() < end => {
                    next = Kind::Wait;
                }
                Step::Ended(_) => return Ok(self.drain(max)),
            }
        }
    }

    /// Creates the consumer again, as after a server that lost it.
    ///
    /// # Errors
    /// As [`Bus::pull`].
    pub async fn repair(&mut self) -> Result<(), BusError> {
        self.asked = None;
        self.bus.ensure_consumer(&self.spec).await
    }

    /// Gives back what was delivered here and not handed out.
    pub async fn close(mut self) {
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            // An error only ends a request, and there is none any more.
            let _ = self.take(message);
        }
        for delivery in self.arrived.drain(..) {
            // When this is lost, the message comes again after the consumer's patience.
            let _ = delivery.settle(Settled::RetryIn(Duration::ZERO)).await;
        }
    }

    /// Waits for the next thing to happen to the request.
    async fn step(&mut self) -> Result<Step, BusError> {
        let Some(asked) = &self.asked else {
            return Ok(Step::Goes);
        };
        let kind = asked.kind;
        tokio::select! {
            biased;
            message = self.messages.next() => match message {
                Some(message) => self.take(message),
                None => Err(BusError::Disconnected { doing: "pull messages" }),
            },
            () = sleep_until(asked.until) => {
                self.asked = None;
                Ok(Step::Ended(kind))
            }
            // The request went with the connection.
            _ = self.connections.changed() => {
                self.asked = None;
                Ok(Step::Ended(kind))
            }
        }
    }

    async fn send_request(&mut self, kind: Kind, max: usize, end: Instant) -> Result<(), BusError> {
        self.requests += 1;
        let reply = format!("{}.{}", self.inbox, self.requests);
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        let (body, batch, until) = match kind {
            Kind::Sweep => (
                json!({ "batch": max, "no_wait": true }),
                max,
                Instant::now() + SWEEP_DEADLINE,
            ),
            Kind::Wait => {
                let expires = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
                let until = Instant::now() + left + EXPIRY_GRACE;
                (json!({ "batch": 1, "expires": expires }), 1, until)
            }
        };
        let stream = self.spec.stream.as_str();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", self.spec.durable);
        let sent = self
            .bus
            .client()
            .publish_with_reply(subject, reply.clone(), body.to_string().into());
        let doing = "pull messages";
        tokio::time::timeout(crate::connection::ENQUEUE_DEADLINE, sent)
            .await
            .map_err(|_| BusError::Disconnected { doing })?
            .map_err(|source| BusError::Client {
                doing,
                source: source.into(),
            })?;
        self.asked = Some(Asked {
            reply,
            kind,
            left: batch,
            until,
        });
        Ok(())
    }

    /// Takes a message of the inbox: a delivery, or how a request ended.
    fn take(&mut self, message: async_nats::Message) -> Result<Step, BusError> {
        let Some(status) = message.status.filter(|status| *status != StatusCode::OK) else {
            let stream = self.spec.stream;
            self.arrived.extend(Delivery::from_message(&self.bus, stream, message));
            let Some(asked) = &mut self.asked else {
                return Ok(Step::Goes);
            };
            asked.left = asked.left.saturating_sub(1);
            if asked.left > 0 {
                return Ok(Step::Goes);
            }
            let kind = asked.kind;
            self.asked = None;
            return Ok(Step::Ended(kind));
        };
        let asked = self.asked.take_if(|asked| asked.reply == message.subject.as_str());
        // How an abandoned request ended matters to nobody.
        let Some(asked) = asked else {
            return Ok(Step::Goes);
        };
        let text = message.description.unwrap_or_default();
        let is_plain_end = matches!(status, StatusCode::NOT_FOUND | StatusCode::TIMEOUT)
            || (status.as_u16() == 409 && text.contains("Exceeded"));
        if is_plain_end {
            return Ok(Step::Ended(asked.kind));
        }
        Err(BusError::Refused {
            doing: format!("deliver from {}/{}", self.spec.stream.as_str(), self.spec.durable),
            code: u64::from(status.as_u16()),
            description: if text.is_empty() {
                "the consumer is not there".to_owned()
            } else {
                text
            },
        })
    }

    fn drain(&mut self, max: usize) -> Vec<Delivery> {
        let count = max.min(self.arrived.len());
        self.arrived.drain(..count).collect()
    }
}
