//! Asking an endpoint that streams: chunks to an inbox of its own, then the reply.

use std::time::Duration;

use futures::StreamExt;
use mesh_api::{Caller, Endpoint, StreamEndpoint};
use mesh_types::{Code, Problem, Subject};

use crate::call::{encode, nobody_there, read_answer, timed_out};
use crate::service::Leaving;
use crate::traced;
use crate::{Bus, BusError, Headers};

const NO_RESPONDERS_PAUSES: [Duration; 6] = [
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(600),
    Duration::from_millis(700),
];

/// A connection that was made anew may have lost the reply: how long silence is then still taken for work.
const RECONNECTED_PATIENCE: Duration = Duration::from_secs(10);

/// Endpoints say every two seconds that they are at work: longer silence means that the one asked is gone. The first
/// word may take longer, as a request may wait its turn there.
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(8);

/// How one stream ended without its reply.
enum Ended {
    NobodyListens,
    With(Problem),
}

impl Bus {
    /// Asks a streaming endpoint; `on_chunk` is called for each chunk in order. The endpoint's
    /// deadline counts from the request to the first message and between two messages. Chunks may
    /// be lost with the connection; the reply holds everything. An endpoint that says
    /// nothing for 8 s, not even that it is at work, is gone. A call that is dropped before its end is dropped by the endpoint as well.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub async fn call_stream<E: StreamEndpoint>(
        &self,
        caller: &Caller,
        request: &E::Request,
        on_chunk: impl FnMut(E::Chunk) + Send,
    ) -> Result<E::Reply, Problem> {
        self.call_stream_at::<E>(&E::subject(), caller, request, on_chunk).await
    }

    /// As [`Bus::call_stream`], at another subject, such as a node's own road.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub async fn call_stream_at<E: StreamEndpoint>(
        &self,
        subject: &Subject,
        caller: &Caller,
        request: &E::Request,
        on_chunk: impl FnMut(E::Chunk) + Send,
    ) -> Result<E::Reply, Problem> {
        let payload = encode(request)?;
        let mut headers = Headers::of_caller(caller);
        let mut span = traced::asking_at::<E>(subject);
        headers.insert_trace(span.place());
        let answered = self.stream_patiently::<E>(subject, headers, payload, on_chunk).await;
        traced::answered(&mut span, answered)
    }

    async fn stream_patiently<E: StreamEndpoint>(
        &self,
        subject: &Subject,
        headers: Headers,
        payload: bytes::Bytes,
        mut on_chunk: impl FnMut(E::Chunk) + Send,
    ) -> Result<E::Reply, Problem> {
        let mut pauses = NO_RESPONDERS_PAUSES.iter();
        loop {
            let asked = self.stream_once::<E>(subject, &headers, &payload, &mut on_chunk).await;
            match asked {
                Ok(reply) => return Ok(reply),
                Err(Ended::With(problem)) => return Err(problem),
                Err(Ended::NobodyListens) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(nobody_there(&subject.to_string())),
                },
            }
        }
    }

    async fn stream_once<E: StreamEndpoint>(
        &self,
        subject: &Subject,
        headers: &Headers,
        payload: &bytes::Bytes,
        on_chunk: &mut (impl FnMut(E::Chunk) + Send),
    ) -> Result<E::Reply, Ended> {
        let inbox = self.client().new_inbox();
        let messages = self.subscribe_at(inbox.clone(), None).await.map_err(Ended::from)?;
        let leaving = Leaving::new(self, subject, inbox.clone());
        let subject = subject.to_string();
        let ended = self
            .stream_at::<E>(&subject, headers, payload, (inbox, messages), on_chunk)
            .await;
        // Also after an error: the answer may be on its way, and a repeat asks for the same.
        leaving.stayed();
        ended
    }

    async fn stream_at<E: StreamEndpoint>(
        &self,
        subject: &str,
        headers: &Headers,
        payload: &bytes::Bytes,
        (inbox, mut messages): (String, async_nats::Subscriber),
        on_chunk: &mut (impl FnMut(E::Chunk) + Send),
    ) -> Result<E::Reply, Ended> {
        let mut connections = self.connections();
        connections.mark_unchanged();
        let headers = headers.clone().into_map();
        let sent = self
            .client()
            .publish_with_reply_and_headers(subject.to_owned(), inbox, headers, payload.clone());
        let deadline = <E as Endpoint>::DEADLINE;
        let late = |_| Ended::With(timed_out(subject, deadline));
        let failed = |error: async_nats::PublishError| {
            Ended::With(Problem::new(Code::Unavailable, format!("{subject}: {error}")))
        };
        tokio::time::timeout(deadline, sent)
            .await
            .map_err(late)?
            .map_err(failed)?;
        let mut chunks = 0_u64;
        // Beats do not count: the deadline is one between things that were said.
        let mut started = tokio::time::Instant::now();
        let mut patience = FIRST_PATIENCE.min(deadline);
        loop {
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(patience, messages.next()) => match next {
                    Ok(next) => next,
                    Err(_) if patience < deadline => return Err(Ended::With(lost(subject))),
                    Err(elapsed) => return Err(late(elapsed)),
                },
                Ok(()) = connections.changed() => {
                    patience = RECONNECTED_PATIENCE.min(deadline);
                    continue;
                }
            };
            patience = PATIENCE.min(deadline);
            let Some(message) = next else {
                return Err(Ended::With(Problem::new(Code::Unavailable, "the connection ended")));
            };
            if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                return Err(Ended::NobodyListens);
            }
            if let Some(reply) = message.reply {
                // The endpoint asks whether anybody waits here.
                let here = self.enqueue(reply.into_string(), Headers::new(), bytes::Bytes::new());
                here.await.map_err(Ended::from)?;
                continue;
            }
            let headers = Headers::from(message.headers);
            if headers.get(Headers::MESH_ALIVE).is_some() {
                if started.elapsed() > deadline {
                    return Err(Ended::With(timed_out(subject, deadline)));
                }
                continue;
            }
            started = tokio::time::Instant::now();
            if headers.get(Headers::MESH_FINAL).is_some() {
                return read_answer(&headers, &message.payload).map_err(Ended::With);
            }
            let number = headers.get(Headers::MESH_CHUNK).and_then(|n| n.parse().ok());
            chunks += 1;
            if number.is_some_and(|number: u64| number != chunks) {
                tracing::warn!(subject, chunks, number, "chunks were lost with the connection");
                chunks = number.unwrap_or(chunks);
            }
            on_chunk(read_answer(&headers, &message.payload).map_err(Ended::With)?);
        }
    }
}

fn lost(subject: &str) -> Problem {
    Problem::new(
        Code::Unavailable,
        format!("{subject} fell silent: its process or the connection is gone"),
    )
}

impl From<BusError> for Ended {
    fn from(error: BusError) -> Self {
        Self::With(error.into())
    }
}
