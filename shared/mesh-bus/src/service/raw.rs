//! Requests as bytes, answered by their handler itself, zero or more times, now or later.

use bytes::Bytes;
use mesh_types::Problem;

use super::stats::Counted;
use crate::{Bus, BusError, Headers};

/// A request as it came. Cheap to move to where it is answered; it counts as answered when it is dropped.
#[derive(Debug)]
pub struct RawRequest {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    /// Where the answer is awaited; without one there is nobody to answer.
    pub reply: Option<String>,
    bus: Bus,
    counted: Counted,
}

impl RawRequest {
    pub(super) fn new(bus: Bus, message: async_nats::Message, counted: Counted) -> Self {
        Self {
            subject: message.subject.into_string(),
            headers: message.headers.into(),
            payload: message.payload,
            reply: message.reply.map(async_nats::Subject::into_string),
            bus,
            counted,
        }
    }

    /// Counts it as answered with this problem, where the answer itself is sent by [`RawRequest::respond_with`].
    pub fn note(&self, problem: &Problem) {
        self.counted.note(problem);
    }

    /// Sends one answer.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn respond(&self, payload: Bytes) -> Result<(), BusError> {
        self.respond_with(Headers::new(), payload).await
    }

    /// Sends one answer with headers.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn respond_with(&self, headers: Headers, payload: Bytes) -> Result<(), BusError> {
        match &self.reply {
            Some(reply) => self.bus.enqueue(reply.clone(), headers, payload).await,
            None => Ok(()),
        }
    }

    /// Sends a problem: its document, and the two headers of an error answer.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn respond_problem(&self, problem: &Problem) -> Result<(), BusError> {
        self.note(problem);
        let (headers, payload) = problem_message(problem);
        self.respond_with(headers, payload).await
    }
}

fn problem_message(problem: &Problem) -> (Headers, Bytes) {
    let mut headers = Headers::new();
    headers.insert(Headers::NATS_SERVICE_ERROR, &problem.title);
    headers.insert(Headers::NATS_SERVICE_ERROR_CODE, problem.status.to_string());
    let body = serde_json::to_vec(problem).expect("a problem is plain JSON");
    (headers, body.into())
}

/// Sends a problem to whoever waits, as the last message of a streamed answer, too.
pub(super) async fn send_problem(bus: &Bus, reply: Option<async_nats::Subject>, problem: &Problem) {
    let Some(reply) = reply else { return };
    let (mut headers, payload) = problem_message(problem);
    headers.insert(Headers::MESH_FINAL, "1");
    if let Err(error) = bus.enqueue(reply.into_string(), headers, payload).await {
        tracing::warn!(%error, %problem, "a caller is not told of a problem");
    }
}
