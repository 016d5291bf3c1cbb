//! One request at any subject, bytes as they are: for `mesh.call`, whose subjects are agents and no endpoints.

use std::time::Duration;

use bytes::Bytes;
use mesh_types::{Code, Problem, Subject};

use crate::api::NoAnswer;
use crate::call::{nobody_there, problem_in, timed_out};
use crate::{Bus, Headers, Message};

impl Bus {
    /// Asks once and hands over the first answer. Not repeated: whether the receiver minds a second one is not known
    /// here.
    ///
    /// # Errors
    /// The problem that the answer carries; `Unavailable` when nobody listens; `Timeout` when the answer is unknown.
    pub async fn request(
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
