//! What an `llm` agent was asked, parsed once from the invocation's payload.

use mesh_api::inference::{PromptMessage, Role};
use mesh_types::content::Content;
use mesh_types::{ChannelId, Code, MessageId, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::caller::Brought;

/// The payload as the loop understands it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// Where history is read and the reply is posted.
    pub channel: Option<ChannelId>,
    /// The message that triggered the invocation, if its maker named it.
    pub trigger: Option<MessageId>,
    /// Replaces nothing: it stands below the instructions.
    pub rewrite_prompt: Option<String>,
    /// A conversation that the caller brings along, as OpenAI's clients do.
    pub messages: Vec<PromptMessage>,
    /// What the user says now.
    pub says: Option<Content>,
    /// What the user said in messages that joined this one before it started, in their order.
    pub merged: Vec<PromptMessage>,
    /// Tools and settings of the caller.
    pub brought: Brought,
}

impl Request {
    /// Fails with a problem that names the field. Fields that it does not know are somebody else's.
    pub fn parse(payload: &Value) -> Result<Self, Problem> {
        let channel: Option<ChannelId> = optional(payload, "channel_id")?;
        let messages: Vec<PromptMessage> = optional(payload, "messages")?.unwrap_or_default();
        let text = optional::<String>(payload, "text")?.filter(|text| !text.trim().is_empty());
        let says = join(text, optional(payload, "content")?);
        let says = match (&says, payload) {
            (None, Value::String(text)) => Some(Content::Text(text.clone())),
            (None, other) if channel.is_none() && messages.is_empty() => Some(Content::Text(other.to_string())),
            _ => says,
        };
        Ok(Self {
            channel,
            trigger: trigger(payload),
            rewrite_prompt: optional::<String>(payload, "rewrite_prompt")?.filter(|text| !text.trim().is_empty()),
            messages,
            says,
            merged: Vec::new(),
            brought: Brought::parse(payload)?,
        })
    }

    /// Another message of the same session joins this one. What cannot be read as a request is shown as JSON.
    pub(crate) fn merge(&mut self, payload: &Value) {
        let Ok(Self { messages, says, .. }) = Self::parse(payload) else {
            let shown = PromptMessage::new(Role::User, payload.to_string());
            self.merged.push(shown);
            return;
        };
        self.merged.extend(messages);
        self.merged
            .extend(says.map(|says| PromptMessage::new(Role::User, says)));
    }

    /// All that the user says, one text after the other.
    pub(crate) fn in_words(&self) -> Vec<String> {
        let brought = self.messages.iter().map(|message| message.content.plain_text());
        let says = self.says.iter().map(Content::plain_text);
        let merged = self.merged.iter().map(|message| message.content.plain_text());
        brought.chain(says).chain(merged).collect()
    }

    /// The newest thing that the caller's user says in the payload itself.
    pub(crate) fn last_user_text(&self) -> Option<String> {
        let last = |messages: &[PromptMessage]| {
            let last = messages.iter().rev().find(|message| message.role == Role::User)?;
            Some(last.content.plain_text())
        };
        last(&self.merged)
            .or_else(|| self.says.as_ref().map(Content::plain_text))
            .or_else(|| last(&self.messages))
    }
}

/// Text and typed blocks of one message; blocks often repeat the text.
fn join(text: Option<String>, content: Option<Content>) -> Option<Content> {
    let content = content.filter(|content| match content {
        Content::Text(text) => !text.trim().is_empty(),
        Content::Blocks(blocks) => !blocks.is_empty(),
    });
    match (text, content) {
        (None, content) => content,
        (Some(text), None | Some(Content::Text(_))) => Some(Content::Text(text)),
        (Some(text), Some(Content::Blocks(blocks))) => {
            let blocks = Content::Blocks(blocks);
            if blocks.plain_text().contains(&text) {
                return Some(blocks);
            }
            let Content::Blocks(mut blocks) = blocks else {
                return Some(blocks);
            };
            blocks.insert(0, json!({"type": "text", "text": text}));
            Some(Content::Blocks(blocks))
        }
    }
}

/// A foreign id that is no token names no message of ours, which is no mistake of the caller.
fn trigger(payload: &Value) -> Option<MessageId> {
    payload.get("message_id")?.as_str()?.parse().ok()
}

fn optional<'a, T: Deserialize<'a>>(payload: &'a Value, field: &str) -> Result<Option<T>, Problem> {
    match payload.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|error| {
            let field = format!("payload.{field}");
            Problem::new(Code::InvalidRequest, format!("{field}: {error}")).field(field)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(payload: Value) -> Request {
        Request::parse(&payload).unwrap()
    }

    #[test]
    fn text_stands_before_blocks_unless_they_repeat_it() {
        let image = json!({"type": "image", "url": "x"});
        let said = parsed(json!({"text": "look", "content": [image]})).says;
        assert_eq!(
            said,
            Some(Content::Blocks(vec![
                json!({"type": "text", "text": "look"}),
                image.clone()
            ]))
        );
        let blocks = vec![json!({"type": "text", "text": "look"}), image];
        let said = parsed(json!({"text": "look", "content": blocks})).says;
        assert_eq!(said, Some(Content::Blocks(blocks)));
    }

    #[test]
    fn a_payload_without_words_is_shown_as_json() {
        let said = |payload| parsed(payload).says.map(|content| content.plain_text());
        assert_eq!(said(json!({"order": 7})).as_deref(), Some(r#"{"order":7}"#));
        assert_eq!(said(json!("just text")).as_deref(), Some("just text"));
        assert_eq!(said(json!({"channel_id": "c1", "order": 7})), None);
        assert_eq!(said(json!({"messages": [{"role": "user", "content": "hi"}]})), None);
    }

    #[test]
    fn a_wrong_type_names_its_field() {
        for (payload, field) in [
            (json!({"text": 7}), "payload.text"),
            (json!({"channel_id": "a b"}), "payload.channel_id"),
            (
                json!({"messages": [{"role": "king", "content": "x"}]}),
                "payload.messages",
            ),
            (json!({"rewrite_prompt": {}}), "payload.rewrite_prompt"),
        ] {
            let problem = Request::parse(&payload).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field));
            assert!(problem.is(Code::InvalidRequest));
        }
    }

    #[test]
    fn a_foreign_message_id_is_taken_if_it_can_be_one_of_ours() {
        assert!(parsed(json!({"text": "x", "message_id": "m-1"})).trigger.is_some());
        assert!(parsed(json!({"text": "x", "message_id": "$e:s"})).trigger.is_none());
    }
}
