//! Request/reply with the services: one request, one answer or one problem.

use std::time::Duration;

use bytes::Bytes;
use mesh_api::{Caller, Endpoint};
use mesh_types::{Code, Problem, Subject};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::api::NoAnswer;
use crate::traced;
use crate::{Bus, Headers};

/// How long "nobody listens" is not believed: services start in any order.
const NO_RESPONDERS_PATIENCE: Duration = Duration::from_secs(2);
const NO_RESPONDERS_PAUSE: Duration = Duration::from_millis(20);
const NO_RESPONDERS_PAUSE_MAX: Duration = Duration::from_millis(250);
/// An instance that was killed may have taken a request with it, so one that may be sent twice is sent to another after
/// half its deadline (a hedged request: Dean, Barroso, "The Tail at Scale"). Longer work than this is not doubled.
const HEDGED_DEADLINE_MAX: Duration = Duration::from_secs(15);

/// What to do when nobody listens at the subject.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NobodyListens {
    /// Ask again for a while.
    Patience,
    /// Say so at once: the subject names one instance, and another may have its work by now.
    Tell,
}

impl Bus {
    /// Asks an endpoint, at the request's own deadline.
    ///
    /// # Errors
    /// The endpoint's problem; `Unavailable` when nobody listened for 2 s; `Timeout` when the
    /// answer is unknown.
    pub async fn call<E: Endpoint>(&self, caller: &Caller, request: &E::Request) -> Result<E::Reply, Problem> {
        self.call_within::<E>(caller, request, E::deadline_of(request)).await
    }

    /// As [`Bus::call`], at another deadline.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub async fn call_within<E: Endpoint>(
        &self,
        caller: &Caller,
        request: &E::Request,
        deadline: Duration,
    ) -> Result<E::Reply, Problem> {
        let subject = E::subject();
        self.call_patiently::<E>(&subject, caller, request, deadline, NobodyListens::Patience)
            .await
    }

    /// Asks an endpoint at another subject, such as one instance's. That nobody listens there is
    /// told at once.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub async fn call_at<E: Endpoint>(
        &self,
        subject: &Subject,
        caller: &Caller,
        request: &E::Request,
        deadline: Duration,
    ) -> Result<E::Reply, Problem> {
        self.call_patiently::<E>(subject, caller, request, deadline, NobodyListens::Tell)
            .await
    }

    async fn call_patiently<E: Endpoint>(
        &self,
        subject: &Subject,
        caller: &Caller,
        request: &E::Request,
        deadline: Duration,
        nobody_listens: NobodyListens,
    ) -> Result<E::Reply, Problem> {
        let payload = encode(request)?;
        let subject = subject.to_string();
        let mut headers = Headers::of_caller(caller);
        let mut span = traced::asking::<E>(&subject);
        headers.insert_trace(span.place());
        // Boxed: a caller's future holds one for each place that asks, and is moved with all of them.
        let answered = Box::pin(self.ask_patiently::<E>(subject, headers, payload, deadline, nobody_listens));
        traced::answered(&mut span, answered.await)
    }

    async fn ask_patiently<E: Endpoint>(
        &self,
        subject: String,
        headers: Headers,
        payload: Bytes,
        deadline: Duration,
        nobody_listens: NobodyListens,
    ) -> Result<E::Reply, Problem> {
        let started = Instant::now();
        let mut pause = NO_RESPONDERS_PAUSE;
        loop {
            let left = deadline.saturating_sub(started.elapsed());
            let asked = self.ask_again_when_reconnected::<E>(&subject, &headers, &payload, left);
            let problem = match asked.await {
                Ok(answer) => return read_answer(&answer.headers.into(), &answer.payload),
                Err(NoAnswer::NobodyListens) => nobody_there(&subject),
                Err(NoAnswer::TimedOut) => return Err(timed_out(&subject, deadline)),
                Err(NoAnswer::TooLarge) => return Err(self.too_large(payload.len()).into()),
                Err(NoAnswer::Client(error)) => {
                    return Err(Problem::new(Code::Unavailable, format!("{subject}: {error}")));
                }
            };
            let patience = deadline.min(NO_RESPONDERS_PATIENCE);
            let left = patience.saturating_sub(started.elapsed());
            if nobody_listens == NobodyListens::Tell || left.is_zero() {
                return Err(problem);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(NO_RESPONDERS_PAUSE_MAX);
        }
    }

    /// A reply may have been lost with the connection; who may be asked twice is asked again
    /// instead of waiting for the deadline.
    async fn ask_again_when_reconnected<E: Endpoint>(
        &self,
        subject: &str,
        headers: &Headers,
        payload: &Bytes,
        deadline: Duration,
    ) -> Result<async_nats::Message, NoAnswer> {
        let end = Instant::now() + deadline;
        let mut connections = self.connections();
        loop {
            connections.mark_unchanged();
            let headers = Some(headers.clone().into_map());
            let left = end.saturating_duration_since(Instant::now());
            if !E::REPEATABLE {
                return self.ask(subject.to_owned(), headers, payload.clone(), left).await;
            }
            tokio::select! {
                biased;
                answer = self.ask_hedged(subject, headers, payload, left) => return answer,
                changed = connections.changed() => {
                    if changed.is_err() {
                        return Err(NoAnswer::TimedOut);
                    }
                }
            }
        }
    }

    /// The first answer of two requests, of which the second goes out when half the time is over.
    async fn ask_hedged(
        &self,
        subject: &str,
        headers: Option<async_nats::HeaderMap>,
        payload: &Bytes,
        deadline: Duration,
    ) -> Result<async_nats::Message, NoAnswer> {
        let first = self.ask(subject.to_owned(), headers.clone(), payload.clone(), deadline);
        if deadline > HEDGED_DEADLINE_MAX {
            return first.await;
        }
        let half = deadline / 2;
        let second = async {
            tokio::time::sleep(half).await;
            self.ask(subject.to_owned(), headers, payload.clone(), deadline - half)
                .await
        };
        tokio::pin!(first);
        tokio::select! {
            biased;
            answer = &mut first => answer,
            answer = second => match answer {
                Ok(answer) => Ok(answer),
                // The first one may still come.
                Err(_) => first.await,
            },
        }
    }
}

pub(crate) fn encode<T: serde::Serialize>(value: &T) -> Result<Bytes, Problem> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Problem::new(Code::Internal, format!("a message cannot be written as JSON: {error}")))
}

pub(crate) fn nobody_there(subject: &str) -> Problem {
    Problem::new(Code::Unavailable, format!("nobody answers at {subject}"))
        .next("try again; `mesh services` shows who is up")
}

pub(crate) fn timed_out(subject: &str, deadline: Duration) -> Problem {
    Problem::new(Code::Timeout, format!("no answer from {subject} within {deadline:?}"))
}

/// A reply, or the problem that an error answer carries.
pub(crate) fn read_answer<T: DeserializeOwned>(headers: &Headers, payload: &[u8]) -> Result<T, Problem> {
    if let Some(problem) = problem_in(headers, payload) {
        return Err(problem);
    }
    serde_json::from_slice(payload)
        .map_err(|error| Problem::new(Code::Internal, format!("the answer is not what was agreed: {error}")))
}

/// The problem of an error answer; `None` for a good one.
pub(crate) fn problem_in(headers: &Headers, payload: &[u8]) -> Option<Problem> {
    let status = headers.get(Headers::NATS_SERVICE_ERROR_CODE)?;
    // A service that is not ours may send the headers alone.
    Some(serde_json::from_slice(payload).unwrap_or_else(|_| {
        let text = headers.get(Headers::NATS_SERVICE_ERROR).unwrap_or("no reason given");
        Problem::new(Code::Internal, format!("{text} ({status})"))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_error_without_a_body_is_still_one() {
        let mut headers = Headers::new();
        headers.insert(Headers::NATS_SERVICE_ERROR_CODE, "418");
        headers.insert(Headers::NATS_SERVICE_ERROR, "teapot");
        let problem = read_answer::<u32>(&headers, b"").unwrap_err();
        assert!(
            problem.is(Code::Internal) && problem.detail.contains("teapot"),
            "{problem:?}"
        );
        assert_eq!(read_answer::<u32>(&Headers::new(), b"7").unwrap(), 7);
        assert!(
            read_answer::<u32>(&Headers::new(), b"x")
                .unwrap_err()
                .is(Code::Internal)
        );
    }
}
