//! What somebody says, parsed.

use mesh_api::inference::{CompleteRequest, PromptMessage, Role};
use mesh_types::{Code, Problem};
use serde::Deserialize;
use serde_json::Map;

const MESSAGES_MAX: usize = 200;
/// Of all texts together.
const TEXT_BYTES_MAX: usize = 192 * 1024;
const MODEL_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatRequest {
    #[serde(default)]
    messages: Vec<ChatMessage>,
    /// What the user says after these, for who has no more to say.
    #[serde(default)]
    text: Option<String>,
    /// Absent: the configured one of the node's own endpoint, else the first that the mesh offers.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    temperature: Option<f64>,
    #[serde(default)]
    max_tokens: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatMessage {
    role: ChatRole,
    content: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChatRole {
    System,
    User,
    Assistant,
}

impl ChatRequest {
    /// The model that it names.
    pub(crate) fn model(&self) -> Option<String> {
        self.model.clone().filter(|model| !model.trim().is_empty())
    }

    /// # Errors
    /// Nothing is asked, or too much.
    pub(crate) fn complete(mut self, model: String) -> Result<CompleteRequest, Problem> {
        let role = ChatRole::User;
        self.messages
            .extend(self.text.take().map(|content| ChatMessage { role, content }));
        let invalid = |field: &str, detail: String| Err(Problem::new(Code::InvalidRequest, detail).field(field));
        if model.len() > MODEL_BYTES_MAX {
            return invalid("model", format!("more than {MODEL_BYTES_MAX} bytes"));
        }
        if self.messages.len() > MESSAGES_MAX {
            return invalid(
                "messages",
                format!("more than {MESSAGES_MAX} messages: begin a new chat"),
            );
        }
        let bytes: usize = self.messages.iter().map(|message| message.content.len()).sum();
        if bytes > TEXT_BYTES_MAX {
            return invalid(
                "messages",
                format!("more than {TEXT_BYTES_MAX} bytes of text: begin a new chat"),
            );
        }
        if !matches!(self.messages.last(), Some(last) if matches!(last.role, ChatRole::User) && !last.content.trim().is_empty())
        {
            return invalid("messages", "the last message is what the user says".to_owned());
        }
        Ok(CompleteRequest {
            model,
            fallbacks: Vec::new(),
            messages: self.messages.into_iter().map(PromptMessage::from).collect(),
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            idempotency_key: None,
            tools: Vec::new(),
            response_schema: None,
            cache: false,
            agent: None,
            metadata: Map::new(),
        })
    }
}

impl From<ChatMessage> for PromptMessage {
    fn from(message: ChatMessage) -> Self {
        let role = match message.role {
            ChatRole::System => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
        };
        Self::new(role, message.content)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(messages: serde_json::Value) -> Result<CompleteRequest, Problem> {
        let request: ChatRequest = serde_json::from_value(json!({"messages": messages})).unwrap();
        request.complete("m".to_owned())
    }

    #[test]
    fn a_talk_ends_with_what_the_user_says() {
        assert!(asked(json!([{"role": "user", "content": "hi"}])).is_ok());
        let short: ChatRequest = serde_json::from_str(r#"{"text": "hi"}"#).unwrap();
        assert_eq!(short.complete("m".to_owned()).unwrap().messages.len(), 1);
        for bad in [
            json!([]),
            json!([{"role": "assistant", "content": "hi"}]),
            json!([{"role": "user", "content": " "}]),
            json!([{"role": "user", "content": "x".repeat(TEXT_BYTES_MAX + 1)}]),
        ] {
            assert_eq!(asked(bad).unwrap_err().field.as_deref(), Some("messages"));
        }
    }
}
