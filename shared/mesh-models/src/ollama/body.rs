//! Bodies of `/api/chat` and `/api/generate`. Pure.

use std::collections::HashMap;

use mesh_api::inference::{CompleteRequest, FunctionCall, PromptMessage, Role};
use mesh_types::content::Content;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::answer::TryError;
use crate::conversation::{Image, arguments_object};

/// Ends of a text that a model goes on with: the user's next turn is not the model's to write.
const NEXT_TURN: &str = "\nUser:";

pub(super) fn json(body: &impl Serialize) -> Result<Vec<u8>, TryError> {
    serde_json::to_vec(body).map_err(|error| TryError::Unsupported(format!("it has no JSON form: {error}")))
}

pub(super) fn chat(model: &str, request: &CompleteRequest) -> Result<Vec<u8>, TryError> {
    let mut names = HashMap::new();
    let messages: Result<Vec<Value>, TryError> = request
        .messages
        .iter()
        .map(|message| chat_message(message, &mut names))
        .collect();
    let mut body = common(model, request);
    body.insert("messages".to_owned(), Value::Array(messages?));
    if !request.tools.is_empty() {
        body.insert("tools".to_owned(), json!(request.tools));
    }
    json(&body)
}

/// What both endpoints take.
fn common(model: &str, request: &CompleteRequest) -> Map<String, Value> {
    let mut body = Map::from_iter([("model".to_owned(), json!(model)), ("stream".to_owned(), json!(true))]);
    if let Some(schema) = &request.response_schema {
        body.insert("format".to_owned(), schema.clone());
    }
    let mut options = Map::new();
    if let Some(temperature) = request.temperature {
        options.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(max_tokens) = request.max_tokens {
        options.insert("num_predict".to_owned(), json!(max_tokens));
    }
    if !options.is_empty() {
        body.insert("options".to_owned(), Value::Object(options));
    }
    body
}

/// `names`: of the tools by the ids of their calls, since results are told apart by the tool's name there.
fn chat_message(message: &PromptMessage, names: &mut HashMap<String, String>) -> Result<Value, TryError> {
    let (text, images) = split(&message.content)?;
    let mut told = json!({"role": message.role, "content": text});
    if !images.is_empty() {
        told["images"] = json!(images);
    }
    let calls = message.tool_calls.iter().filter_map(FunctionCall::parse);
    let calls: Vec<Value> = calls
        .map(|call| {
            let arguments = arguments_object(&call.arguments);
            let told = json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}});
            names.insert(call.id, call.name);
            told
        })
        .collect();
    if !calls.is_empty() {
        told["tool_calls"] = Value::Array(calls);
    }
    if let Some(id) = &message.tool_call_id {
        told["tool_call_id"] = json!(id);
        if let Some(name) = names.get(id) {
            told["tool_name"] = json!(name);
        }
    }
    Ok(told)
}

pub(super) fn generate(model: &str, request: &CompleteRequest) -> Result<Vec<u8>, TryError> {
    if !request.tools.is_empty() {
        let why =
            "a model without a chat template takes no tools; leave `generate` out of the provider's configuration";
        return Err(TryError::Unsupported(why.to_owned()));
    }
    let mut system = Vec::new();
    let mut turns = Vec::new();
    let mut images = Vec::new();
    for message in &request.messages {
        let (text, shown) = split(&message.content)?;
        images.extend(shown);
        match message.role {
            Role::System => system.push(text),
            Role::User => turns.push(("User", text)),
            Role::Assistant => turns.push(("Assistant", text)),
            Role::Tool => turns.push(("Tool", text)),
        }
    }
    let mut body = common(model, request);
    let prompt = match turns.as_mut_slice() {
        // One question, or one text to go on with, goes as it is.
        [("User", text)] => std::mem::take(text),
        turns => {
            let told: String = turns.iter().map(|(who, text)| format!("{who}: {text}\n")).collect();
            let options = body.entry("options").or_insert_with(|| json!({}));
            options["stop"] = json!([NEXT_TURN]);
            told + "Assistant:"
        }
    };
    body.insert("prompt".to_owned(), json!(prompt));
    if !system.is_empty() {
        body.insert("system".to_owned(), json!(system.join("\n\n")));
    }
    if !images.is_empty() {
        body.insert("images".to_owned(), json!(images));
    }
    json(&body)
}

/// Text and images apart, as the wire has them; images in base64.
fn split(content: &Content) -> Result<(String, Vec<String>), TryError> {
    let mut images = Vec::new();
    if let Content::Blocks(blocks) = content {
        for block in blocks {
            match block.get("type").and_then(Value::as_str).unwrap_or_default() {
                "text" => {}
                "image_url" => match Image::of(block) {
                    Some(Image::Data { base64, .. }) => images.push(base64.to_owned()),
                    _ => {
                        let why = "Ollama takes images as base64 `data:` URLs only";
                        return Err(TryError::Unsupported(why.to_owned()));
                    }
                },
                other => {
                    let other: String = other.chars().take(40).collect();
                    let why = format!("Ollama's API has no block of kind `{other}`; send text or images");
                    return Err(TryError::Unsupported(why));
                }
            }
        }
    }
    Ok((content.plain_text(), images))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(value: Value) -> CompleteRequest {
        serde_json::from_value(value).unwrap()
    }

    fn chat_of(value: Value) -> Value {
        serde_json::from_slice(&chat("llama3", &request(value)).unwrap()).unwrap()
    }

    fn generate_of(value: Value) -> Value {
        serde_json::from_slice(&generate("base", &request(value)).unwrap()).unwrap()
    }

    #[test]
    fn a_conversation_is_told_with_objects_and_names() {
        let call = json!({"id": "call_0_0", "type": "function",
                          "function": {"name": "weather", "arguments": "{\"city\":\"Lviv\"}"}});
        let schema = json!({"type": "object"});
        let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
        let body = chat_of(json!({
            "model": "x", "temperature": 0.2, "max_tokens": 9, "response_schema": schema, "tools": [tool],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "rain", "tool_call_id": "call_0_0"}]}));
        let expected = json!({
            "model": "llama3", "stream": true, "format": schema, "tools": [tool],
            "options": {"temperature": 0.2, "num_predict": 9},
            "messages": [
                {"role": "user", "content": "look", "images": ["iVBO"]},
                {"role": "assistant", "content": "", "tool_calls": [
                    {"id": "call_0_0", "function": {"name": "weather", "arguments": {"city": "Lviv"}}}]},
                {"role": "tool", "content": "rain", "tool_call_id": "call_0_0", "tool_name": "weather"}]});
        assert_eq!(body, expected);
    }

    #[test]
    fn a_model_without_a_template_gets_one_text() {
        let one = generate_of(json!({"model": "x", "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Once upon"}]}));
        assert_eq!(
            one,
            json!({"model": "base", "stream": true, "prompt": "Once upon", "system": "Be brief."})
        );
        let many = generate_of(json!({"model": "x", "max_tokens": 5, "messages": [
            {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}));
        assert_eq!(many["prompt"], "User: a\nAssistant: b\nUser: c\nAssistant:");
        assert_eq!(many["options"], json!({"num_predict": 5, "stop": ["\nUser:"]}));
    }

    #[test]
    fn what_the_wire_has_no_place_for_is_refused() {
        let blocks = |blocks: Value| request(json!({"model": "x", "messages": [{"role": "user", "content": blocks}]}));
        let by_url = json!([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]);
        for (refused, part) in [
            (chat("m", &blocks(by_url)), "data:"),
            (chat("m", &blocks(json!([{"type": "hologram"}]))), "hologram"),
            (
                generate(
                    "m",
                    &request(json!({"model": "x", "messages": [], "tools": [{"type": "function"}]})),
                ),
                "no tools",
            ),
        ] {
            let error = refused.unwrap_err();
            assert!(error.is_refusal() && error.to_string().contains(part), "{error}");
        }
    }
}
