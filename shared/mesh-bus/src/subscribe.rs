//! Core subscriptions: what is published while nobody listens is gone, and the bell tells when
//! something may have been missed.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mesh_types::subject::Filter;

use crate::connection::ENQUEUE_DEADLINE;
use crate::{Bus, BusError, Headers};

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    /// Where an answer is awaited.
    pub reply: Option<String>,
    pub headers: Headers,
    pub payload: Bytes,
}

impl From<async_nats::Message> for Message {
    fn from(message: async_nats::Message) -> Self {
        Self {
            subject: message.subject.into_string(),
            reply: message.reply.map(async_nats::Subject::into_string),
            headers: message.headers.into(),
            payload: message.payload,
        }
    }
}

/// Messages of one filter, over every reconnect. Ends only with the connection's own end.
#[derive(Debug)]
pub struct Subscription(async_nats::Subscriber);

impl Subscription {
    /// The next message.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await.map(Message::from)
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_next_unpin(cx).map(|message| message.map(Message::from))
    }
}

impl Bus {
    /// Hears every message of a filter that is published after this returns: who then reads the
    /// truth misses nothing. Without a connection it hears from the next one on, and
    /// [`Bus::reconnects`] rings then, as it does when a subscriber lets 65,536 messages wait and
    /// loses what comes after them.
    ///
    /// # Errors
    /// [`BusError::Disconnected`] after 10 s without room on the way to the server.
    pub async fn subscribe(&self, filter: &Filter) -> Result<Subscription, BusError> {
        self.subscribe_in(filter, None).await
    }

    /// As [`Bus::subscribe`], but each message goes to one of those who subscribed with the same group.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    pub async fn subscribe_shared(&self, filter: &Filter, group: &str) -> Result<Subscription, BusError> {
        self.subscribe_in(filter, Some(group)).await
    }

    async fn subscribe_in(&self, filter: &Filter, group: Option<&str>) -> Result<Subscription, BusError> {
        let subscriber = self.subscribe_at(filter.to_string(), group).await?;
        if self.is_connected() {
            // When the connection goes meanwhile, the bell tells.
            let _ = self.flush().await;
        }
        Ok(Subscription(subscriber))
    }

    pub(crate) async fn subscribe_at(
        &self,
        subject: String,
        queue_group: Option<&str>,
    ) -> Result<async_nats::Subscriber, BusError> {
        let doing = "subscribe";
        let subscribed = async {
            match queue_group {
                Some(group) => self.client().queue_subscribe(subject, group.to_owned()).await,
                None => self.client().subscribe(subject).await,
            }
        };
        match tokio::time::timeout(ENQUEUE_DEADLINE, subscribed).await {
            Ok(Ok(subscriber)) => Ok(subscriber),
            Ok(Err(source)) => Err(BusError::Client {
                doing,
                source: source.into(),
            }),
            Err(_) => Err(BusError::Disconnected { doing }),
        }
    }
}
