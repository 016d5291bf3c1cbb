//! What may be posted, and when two posts are the same. Pure.

use mesh_api::messaging::{Author, AuthorKind, Message, PostRequest};
use mesh_types::json::BODY_BYTES_MAX;
use mesh_types::{ChannelId, Code, MessageId, Problem, Timestamp};

/// A message's JSON has the text of a public body, and room for ids, author and time around it.
const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX + 64 * 1024;
const AUTHOR_BYTES_MAX: usize = 256;

/// A checked message, in the form that is stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Draft {
    pub(crate) message: Message,
    /// JSON of the content and of the metadata, where there are any.
    pub(crate) content: Option<String>,
    pub(crate) metadata: Option<String>,
    /// Bytes of the message's JSON.
    pub(crate) size: i32,
}

impl Draft {
    /// `minted` is the id of a message that comes without one.
    pub(crate) fn new(request: PostRequest, minted: MessageId, created_at: Timestamp) -> Result<Self, Problem> {
        let PostRequest {
            channel,
            id,
            author,
            text,
            content,
            metadata,
        } = request;
        for (field, value) in [("text", &text), ("author.id", &author.id)] {
            // Refused, not stripped: what was posted is never silently changed, and text in Postgres cannot hold it.
            if value.contains('\0') {
                return Err(
                    Problem::new(Code::InvalidRequest, format!("`{field}` contains the character U+0000"))
                        .field(field)
                        .next("remove the character and post again"),
                );
            }
        }
        if author.id.is_empty() || author.id.len() > AUTHOR_BYTES_MAX {
            let detail = format!(
                "`author.id` has {} bytes, 1 to {AUTHOR_BYTES_MAX} are taken",
                author.id.len()
            );
            return Err(Problem::new(Code::InvalidRequest, detail).field("author.id"));
        }
        let message = Message {
            id: id.unwrap_or(minted),
            channel_id: channel,
            author,
            text,
            content,
            metadata,
            created_at,
        };
        let json = |value: serde_json::Result<String>| {
            value.map_err(|error| Problem::new(Code::InvalidRequest, format!("the message has no JSON: {error}")))
        };
        let size = json(serde_json::to_string(&message))?.len();
        if size > MESSAGE_BYTES_MAX {
            let detail = format!("the message has {size} bytes as JSON, at most {MESSAGE_BYTES_MAX} are taken");
            return Err(Problem::new(Code::BodyTooLarge, detail).field("text"));
        }
        let content = message
            .content
            .as_ref()
            .map(|content| json(serde_json::to_string(content)))
            .transpose()?;
        let metadata = if message.metadata.is_empty() {
            None
        } else {
            Some(json(serde_json::to_string(&message.metadata))?)
        };
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        Ok(Self {
            message,
            content,
            metadata,
            size,
        })
    }

    /// Whether the stored message is this one, posted again: all but the time.
    pub(crate) fn is(&self, stored: &Message) -> bool {
        let ours = &self.message;
        ours.id == stored.id
            && ours.channel_id == stored.channel_id
            && ours.author == stored.author
            && ours.text == stored.text
            && ours.content == stored.content
            && ours.metadata == stored.metadata
    }
}

pub(crate) fn conflict(channel: &ChannelId, id: &MessageId) -> Problem {
    Problem::new(
        Code::MessageConflict,
        format!("channel `{channel}` has a message `{id}` with another body"),
    )
    .field("id")
    .next("post it under another id, or leave the id out")
}

pub(crate) const fn author_kind(kind: AuthorKind) -> &'static str {
    match kind {
        AuthorKind::User => "user",
        AuthorKind::Agent => "agent",
        AuthorKind::System => "system",
    }
}

/// From the stored text; the table takes no other.
pub(crate) fn author(kind: &str, id: String) -> Option<Author> {
    let kind = [AuthorKind::User, AuthorKind::Agent, AuthorKind::System]
        .into_iter()
        .find(|known| author_kind(*known) == kind)?;
    Some(Author { kind, id })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft(body: serde_json::Value) -> Result<Draft, Problem> {
        let mut request = json!({"channel": "general", "author": {"kind": "user", "id": "ann"}, "text": "hi"});
        request
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        let request = serde_json::from_value(request).unwrap();
        Draft::new(request, "msg_minted".parse().unwrap(), Timestamp::EPOCH)
    }

    #[test]
    fn a_message_without_an_id_gets_the_minted_one() {
        assert_eq!(draft(json!({})).unwrap().message.id.as_str(), "msg_minted");
        assert_eq!(draft(json!({"id": "mine"})).unwrap().message.id.as_str(), "mine");
    }

    #[test]
    fn what_postgres_cannot_hold_is_refused_by_field() {
        let problem = draft(json!({"text": "a\0b"})).unwrap_err();
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some("text")));
        let problem = draft(json!({"author": {"kind": "agent", "id": "so\0fia"}})).unwrap_err();
        assert_eq!((problem.status, problem.field.as_deref()), (400, Some("author.id")));
        assert!(draft(json!({"author": {"kind": "user", "id": ""}})).is_err());
        // Escaped in JSON, so content and metadata keep it.
        assert!(draft(json!({"content": [{"type": "text", "text": "\0"}], "metadata": {"k": "\0"}})).is_ok());
    }

    #[test]
    fn a_public_body_fits_and_not_much_more() {
        assert!(draft(json!({"text": "x".repeat(BODY_BYTES_MAX)})).is_ok());
        assert_eq!(
            draft(json!({"text": "x".repeat(MESSAGE_BYTES_MAX)}))
                .unwrap_err()
                .status,
            413
        );
        // A control character is six bytes of JSON: measured is what travels.
        assert_eq!(
            draft(json!({"text": "\u{1}".repeat(BODY_BYTES_MAX / 2)}))
                .unwrap_err()
                .status,
            413
        );
    }

    #[test]
    fn the_same_body_again_is_the_same_message() {
        let first = draft(json!({"id": "m", "metadata": {"a": 1}})).unwrap();
        let mut later = first.message.clone();
        later.created_at = Timestamp::from_millis(5);
        assert!(first.is(&later));
        for other in [
            json!({"id": "m"}),
            json!({"id": "m", "metadata": {"a": 1}, "text": "ho"}),
        ] {
            assert!(!draft(other).unwrap().is(&later));
        }
    }

    #[test]
    fn every_kind_of_author_survives_its_text() {
        for kind in [AuthorKind::User, AuthorKind::Agent, AuthorKind::System] {
            assert_eq!(author(author_kind(kind), "x".into()).unwrap().kind, kind);
        }
        assert_eq!(author("bot", "x".into()), None);
    }
}
