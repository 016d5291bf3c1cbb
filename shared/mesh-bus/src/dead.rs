//! Dead letters: the message as it came, its reason and its first subject in the headers. Nothing
//! is dropped.

use mesh_types::{Problem, Subject, Tenant};

use crate::{BusError, Delivery, Headers};

/// Room for the framing that the server counts with the headers.
const SPARE_BYTES: usize = 64;
/// A reason quotes what it refuses; its text is bounded here.
const REASON_DETAIL_CHARS_MAX: usize = 2_000;

impl Delivery {
    /// Stores the dead letter; done when the stream has acknowledged it. Buried twice it is
    /// stored once, for its id is the message's place.
    pub(crate) async fn bury(&self, reason: &Problem) -> Result<(), BusError> {
        let stream = self.stream.as_str();
        let origin = stream.parse().expect("stream names are tokens");
        let subject = Subject::Dead {
            tenant: self.tenant(),
            origin,
        };
        let headers = self.dead_headers(reason);
        let id = format!("{stream}:{}", self.stream_sequence);
        let room = self
            .bus
            .client()
            .max_payload()
            .saturating_sub(headers.wire_bytes() + Headers::NATS_MSG_ID.len() + id.len() + SPARE_BYTES);
        let (headers, payload) = if self.payload.len() > room {
            // The headers added make it larger than what the server takes: keep its beginning.
            let mut headers = headers;
            headers.insert(Headers::MESH_DEAD_CUT, self.payload.len().to_string());
            (headers, self.payload.slice(..room.saturating_sub(SPARE_BYTES)))
        } else {
            (headers, self.payload.clone())
        };
        let stored = self.bus.publish_durable(&subject, &id, headers, payload).await?;
        self.bus.tell_buried(stream);
        tracing::warn!(
            stream,
            sequence = self.stream_sequence,
            dead_letter = stored.sequence,
            %reason,
            "a message became a dead letter"
        );
        Ok(())
    }

    fn tenant(&self) -> Tenant {
        match self.subject.parse() {
            Ok(Subject::Invoke { tenant, .. } | Subject::Event { tenant, .. }) => tenant,
            _ => {
                let named = self.headers.get(Headers::MESH_TENANT);
                named.and_then(|name| name.parse().ok()).unwrap_or_default()
            }
        }
    }

    fn dead_headers(&self, reason: &Problem) -> Headers {
        let mut headers = self.headers.clone();
        let mut reason = reason.clone();
        if reason.detail.chars().count() > REASON_DETAIL_CHARS_MAX {
            reason.detail = reason.detail.chars().take(REASON_DETAIL_CHARS_MAX).collect();
        }
        let text = serde_json::to_string(&reason).unwrap_or_else(|_| reason.to_string());
        headers.insert(Headers::MESH_DEAD_REASON, text);
        headers.insert(Headers::MESH_DEAD_SUBJECT, &self.subject);
        // A header such as an expected sequence or a time to live was for the first stream.
        headers.keep(|name| !name.starts_with("Nats-"));
        headers
    }
}
