//! The last message of one subject of a stream, read without a consumer.

use async_nats::StatusCode;
use bytes::Bytes;
use mesh_types::Subject;

use crate::api::{API_DEADLINE, NoAnswer};
use crate::{Bus, BusError, Headers, Message, StreamName};

impl Bus {
    /// The newest message that a stream holds of a subject; `None` when it holds none.
    ///
    /// # Errors
    /// [`BusError::NoStream`] when the stream is not there; when it does not answer within 10 s.
    pub async fn last_message(&self, stream: StreamName, subject: &Subject) -> Result<Option<Message>, BusError> {
        let subject = subject.to_string();
        let doing = "read the last message of a subject";
        let asked = format!("$JS.API.DIRECT.GET.{}.{subject}", stream.as_str());
        let answer = match self.ask(asked, None, Bytes::new(), API_DEADLINE).await {
            Ok(answer) => answer,
            Err(NoAnswer::NobodyListens) => return Err(BusError::NoStream { subject }),
            Err(NoAnswer::TimedOut) => {
                return Err(BusError::Unknown {
                    doing: doing.to_owned(),
                    waited: API_DEADLINE,
                });
            }
            Err(NoAnswer::TooLarge) => return Err(self.too_large(0)),
            Err(NoAnswer::Client(source)) => return Err(BusError::Client { doing, source }),
        };
        match answer.status {
            Some(StatusCode::NOT_FOUND) => Ok(None),
            Some(status) if status != StatusCode::OK => Err(BusError::Refused {
                doing: format!("read {subject}"),
                code: u64::from(status.as_u16()),
                description: answer.description.unwrap_or_default(),
            }),
            _ => Ok(Some(Message {
                subject,
                reply: None,
                headers: Headers::from(answer.headers),
                payload: answer.payload,
            })),
        }
    }
}
