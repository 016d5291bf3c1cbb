//! A message of A2A as an invocation: its parts are the payload, its context the session.

use a2a::types::{Message, Part, PartContent};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_api::execution::InvokeRequest;
use serde_json::{Map, Value, json};

use super::rpc::Refused;

/// Longest id that a client makes, in bytes.
const ID_BYTES_MAX: usize = 100;
/// Where an invocation keeps the message that it came with.
pub(super) const METADATA: &str = "a2a_message";

/// # Errors
/// Names what is wrong with the message. A message for a task that exists is refused: tasks take no more of them.
pub(super) fn read(message: &Message) -> Result<InvokeRequest, Refused> {
    check_id("message.messageId", &message.message_id)?;
    if let Some(context) = &message.context_id {
        check_id("message.contextId", context)?;
    }
    if message.task_id.as_ref().is_some_and(|task| !task.is_empty()) {
        return Err(Refused::unsupported(
            "a task takes no further messages: send it with the contextId of the conversation, without a taskId",
        ));
    }
    if message.parts.is_empty() {
        return Err(Refused::invalid("message.parts must hold at least one part"));
    }
    let context = message.context_id.clone().filter(|context| !context.is_empty());
    // Of the message's own id: a repeat of it is the same request.
    let context = context.unwrap_or_else(|| format!("a2a-{}", message.message_id));
    let mut kept = message.clone();
    kept.context_id = Some(context.clone());
    Ok(InvokeRequest {
        payload: payload(&message.parts),
        entrypoint: Some("a2a".into()),
        session: Some(context),
        idempotency_key: Some(format!("a2a/{}", message.message_id)),
        metadata: Map::from_iter([(METADATA.to_owned(), json!(kept))]),
        ..InvokeRequest::default()
    })
}

fn check_id(field: &str, id: &str) -> Result<(), Refused> {
    let is_id = (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control);
    if is_id {
        return Ok(());
    }
    Err(Refused::invalid(&format!(
        "{field} must have 1 to {ID_BYTES_MAX} bytes and no control characters"
    )))
}

/// Text alone is what an `llm` agent is told, data alone is the payload of any other; a mix is a list of blocks.
fn payload(parts: &[Part]) -> Value {
    match parts {
        [
            Part {
                content: PartContent::Text(text),
                ..
            },
        ] => json!({"text": text}),
        [
            Part {
                content: PartContent::Data(data @ Value::Object(_)),
                ..
            },
        ] => data.clone(),
        parts => json!({"content": parts.iter().map(block).collect::<Vec<_>>()}),
    }
}

fn block(part: &Part) -> Value {
    let kind = part.media_type.as_deref().unwrap_or("application/octet-stream");
    let url = match &part.content {
        PartContent::Text(text) => return json!({"type": "text", "text": text}),
        PartContent::Data(data) => return json!({"type": "text", "text": data.to_string()}),
        PartContent::Url(url) => url.clone(),
        PartContent::Raw(bytes) => format!("data:{kind};base64,{}", STANDARD.encode(bytes)),
    };
    if kind.starts_with("image/") {
        json!({"type": "image_url", "image_url": {"url": url}})
    } else {
        json!({"type": "file", "file": {"url": url, "filename": part.filename, "media_type": kind}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(more: Value) -> Message {
        let mut body = json!({"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hi"}]});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_message_is_an_invocation_of_its_context() {
        let request = read(&message(json!({}))).unwrap();
        assert_eq!(request.payload, json!({"text": "hi"}));
        assert_eq!(request.session.as_deref(), Some("a2a-m1"));
        assert_eq!(request.metadata[METADATA]["contextId"], "a2a-m1");
        let known = read(&message(json!({"contextId": "c"}))).unwrap();
        assert_eq!(known.session.as_deref(), Some("c"));
    }

    #[test]
    fn parts_are_text_data_or_blocks() {
        let data = read(&message(json!({"parts": [{"data": {"order": 7}}]}))).unwrap();
        assert_eq!(data.payload, json!({"order": 7}));
        let mixed = json!({"parts": [{"text": "look"}, {"raw": "aGk=", "mediaType": "image/png"}]});
        assert_eq!(
            read(&message(mixed)).unwrap().payload,
            json!({"content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]})
        );
    }

    #[test]
    fn what_a_task_cannot_be_made_of_is_refused() {
        for wrong in [
            json!({"messageId": ""}),
            json!({"messageId": "x".repeat(101)}),
            json!({"contextId": "a\nb"}),
            json!({"taskId": "inv_1"}),
            json!({"parts": []}),
        ] {
            assert!(read(&message(wrong)).is_err());
        }
    }
}
