//! One request at any subject, bytes as they are: for `mesh.call`, whose subjects are agents and no endpoints.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use mesh_types::subject::Filter;
use mesh_types::{Code, Problem, Subject};

use crate::api::NoAnswer;
use crate::call::{nobody_there, problem_in, timed_out};
use crate::traced;
use crate::{Bus, BusError, Headers, Message};

impl Bus {
    /// Asks everybody who listens, and hands over what is answered within `wait`: nobody knows how many there are.
    ///
    /// # Errors
    /// [`BusError::Disconnected`], [`BusError::Client`].
    pub async fn request_all(&self, asked: &Filter, payload: Bytes, wait: Duration) -> Result<Vec<Message>, BusError> {
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe_at(inbox.clone(), None).await?;
        let sent = self
            .client()
            .publish_with_reply(asked.to_string(), inbox, payload)
            .await;
        sent.map_err(|source| BusError::Client {
            doing: "ask everybody",
            source: source.into(),
        })?;
        let mut heard = Vec::new();
        let collect = async {
            while let Some(answer) = answers.next().await {
                heard.push(Message::from(answer));
            }
        };
        let _ = tokio::time::timeout(wait, collect).await;
        Ok(heard)
    }

    /// Asks once and hands over the first answer. Not repeated: whether the receiver minds a second one is not known
    /// here.
    ///
    /// # Errors
    /// The problem that the answer carries; `Unavailable` when nobody listens; `Timeout` when the answer is unknown.
    pub async fn request(
        &self,
        subject: &Subject,
        mut headers: Headers,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Message, Problem> {
        let mut span = traced::asking_agent(subject);
        headers.insert_trace(span.place());
        let answered = self.request_once(subject, headers, payload, deadline).await;
        traced::answered(&mut span, answered)
    }

    async fn request_once(
        &self,
        subject: &Subject,
        headers: Headers,
        payload: Bytes,
        deadline: Duration,
    ) -> Result<Message, Problem> {
        let bytes = payload.len() + headers.wire_bytes();
        let headers = (!headers.is_empty()).then(|| headers.into_map());
        let subject = subject.to_string();
        let answer = match self.ask(subject.clone(), headers, payload, deadline).await {
            Ok(answer) => Message::from(answer),
            Err(NoAnswer::NobodyListens) => return Err(nobody_there(&subject)),
            Err(NoAnswer::TimedOut) => return Err(timed_out(&subject, deadline)),
            Err(NoAnswer::TooLarge) => return Err(self.too_large(bytes).into()),
            Err(NoAnswer::Client(error)) => {
                return Err(Problem::new(Code::Unavailable, format!("{subject}: {error}")));
            }
        };
        match problem_in(&answer.headers, &answer.payload) {
            None => Ok(answer),
            Some(problem) => Err(problem),
        }
    }
}
