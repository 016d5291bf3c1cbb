//! A message of a stream as a consumer gets it, and its settling: a return value, so that no path
//! can forget it.

use std::time::Duration;

use bytes::Bytes;
use mesh_types::{Problem, Timestamp};

use crate::{Bus, BusError, Headers, StreamName};

/// What becomes of a delivered message.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// Handled; the stream forgets it or moves on.
    Ack,
    /// Deliver it again, not before that time has passed.
    RetryIn(Duration),
    /// It can never be handled: it goes to the dead letters with its reason.
    Dead(Problem),
}

/// One delivery of one message. A message may be delivered more than once.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    /// Place in the stream; with the stream's name an id of the message.
    pub stream_sequence: u64,
    /// When the stream took it.
    pub published_at: Timestamp,
    /// The same in nanoseconds since 1970, as the stream keeps it.
    pub published_at_ns: i64,
    /// Which delivery of this message this is, from 1.
    pub delivered: u32,
    pub(crate) stream: StreamName,
    pub(crate) bus: Bus,
    /// Where the settling is sent.
    pub(crate) settle_at: String,
}

impl Delivery {
    /// `None` for a message that no stream delivered.
    pub(crate) fn from_message(bus: &Bus, stream: StreamName, message: async_nats::Message) -> Option<Self> {
        let settle_at = message.reply?.into_string();
        let place = Place::parse(&settle_at)?;
        Some(Self {
            subject: message.subject.into_string(),
            headers: message.headers.into(),
            payload: message.payload,
            stream_sequence: place.stream_sequence,
            published_at: Timestamp::from_micros(place.published_at_ns / 1_000),
            published_at_ns: place.published_at_ns,
            delivered: place.delivered,
            stream,
            bus: bus.clone(),
            settle_at,
        })
    }

    /// Settles it. An ack is sent, not awaited: when it is lost, the message comes again. A dead
    /// letter is stored before its message is acknowledged.
    ///
    /// # Errors
    /// When nothing could be sent, or the dead letter could not be stored; the message then comes
    /// again.
    pub async fn settle(&self, settled: Settled) -> Result<(), BusError> {
        match settled {
            Settled::Ack => self.say(Bytes::from_static(b"+ACK")).await,
            Settled::RetryIn(pause) => {
                let nanoseconds = i64::try_from(pause.as_nanos()).unwrap_or(i64::MAX);
                self.say(format!("-NAK {{\"delay\": {nanoseconds}}}").into()).await
            }
            Settled::Dead(reason) => {
                self.bury(&reason).await?;
                self.say(Bytes::from_static(b"+ACK")).await
            }
        }
    }

    /// Tells the stream that work on it goes on: its time to be settled starts anew.
    ///
    /// # Errors
    /// When nothing could be sent.
    pub async fn in_progress(&self) -> Result<(), BusError> {
        self.say(Bytes::from_static(b"+WPI")).await
    }

    async fn say(&self, word: Bytes) -> Result<(), BusError> {
        self.bus.enqueue(self.settle_at.clone(), Headers::new(), word).await
    }
}

/// What the reply subject of a delivered message says.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    delivered: u32,
    stream_sequence: u64,
    published_at_ns: i64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`,
    /// newer servers with `<domain>.<account>` before the stream and more at the end.
    fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            7 => &tokens[2..],
            9.. => &tokens[4..],
            _ => return None,
        };
        Some(Self {
            delivered: numbers[0].parse().ok()?,
            stream_sequence: numbers[1].parse().ok()?,
            published_at_ns: numbers[3].parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let wanted = Some(Place {
            delivered: 2,
            stream_sequence: 7,
            published_at_ns: 1_795,
        });
        assert_eq!(Place::parse("$JS.ACK.INVOCATIONS.intake.2.7.9.1795.0"), wanted);
        assert_eq!(Place::parse("$JS.ACK._.hash.INVOCATIONS.intake.2.7.9.1795.0"), wanted);
        assert_eq!(
            Place::parse("$JS.ACK.d.hash.INVOCATIONS.intake.2.7.9.1795.0.token"),
            wanted
        );
        for text in ["", "_INBOX.a", "$JS.ACK.a.b", "$JS.ACK.S.c.x.7.9.1795.0"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
