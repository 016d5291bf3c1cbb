//! The body of one `/chat/completions`. Pure.

use mesh_api::inference::{CompleteRequest, PromptMessage, Role};
use mesh_types::content::Content;
use serde::Serialize;
use serde_json::{Value, json};

use super::SchemaSupport;
use crate::answer::TryError;

/// What the schema of an answer is called on the wire, which demands a name.
const SCHEMA_NAME: &str = "answer";
/// Deepest schema that is looked through for strictness.
const SCHEMA_DEPTH_MAX: usize = 32;

/// Blocks, tools and tool calls go out as they came in.
pub(super) fn chat(model: &str, request: &CompleteRequest, support: SchemaSupport) -> Result<Vec<u8>, TryError> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        messages: Vec<Message<'a>>,
        stream: bool,
        stream_options: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        temperature: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_completion_tokens: Option<u32>,
        #[serde(skip_serializing_if = "<[Value]>::is_empty")]
        tools: &'a [Value],
        #[serde(skip_serializing_if = "Option::is_none")]
        response_format: Option<Value>,
    }
    let in_prompt = request
        .response_schema
        .as_ref()
        .filter(|_| support == SchemaSupport::Object);
    let instruction = in_prompt.map(|schema| {
        let text = format!("Answer with one JSON object, and nothing else, that follows this JSON Schema: {schema}");
        Content::Text(text)
    });
    let mut messages: Vec<Message<'_>> = request.messages.iter().map(Message::from).collect();
    if let Some(instruction) = &instruction {
        // After the system's own words: some servers take them in the first places only.
        let place = messages
            .iter()
            .take_while(|message| message.role == Role::System)
            .count();
        messages.insert(place, Message::system(instruction));
    }
    let is_reasoning = is_reasoning(model);
    let body = Body {
        model,
        messages,
        stream: true,
        stream_options: json!({"include_usage": true}),
        temperature: request.temperature.filter(|_| !is_reasoning),
        max_tokens: request.max_tokens.filter(|_| !is_reasoning),
        max_completion_tokens: request.max_tokens.filter(|_| is_reasoning),
        tools: &request.tools,
        response_format: request.response_schema.as_ref().map(|schema| format(schema, support)),
    };
    serde_json::to_vec(&body).map_err(|error| TryError::Unsupported(format!("it has no JSON form: {error}")))
}

/// OpenAI's models that think first refuse a temperature, and `max_tokens` under its old name.
fn is_reasoning(model: &str) -> bool {
    // Behind a router, the maker's name goes before the model's.
    let name = model.rsplit('/').next().unwrap_or(model);
    ["o1", "o3", "o4", "gpt-5"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        && !name.starts_with("gpt-5-chat")
}

fn format(schema: &Value, support: SchemaSupport) -> Value {
    if support == SchemaSupport::Object {
        return json!({"type": "json_object"});
    }
    let mut named = json!({"name": SCHEMA_NAME, "schema": schema});
    // OpenAI refuses a schema that says `strict` without being so, and keeps to a strict one exactly.
    if schema["type"] == "object" && is_strict(schema, 0) {
        named["strict"] = json!(true);
    }
    json!({"type": "json_schema", "json_schema": named})
}

/// Every object closed and all of its properties required, as OpenAI's "Structured outputs" guide demands.
fn is_strict(schema: &Value, depth: usize) -> bool {
    let Value::Object(fields) = schema else {
        return !schema.is_boolean();
    };
    if depth > SCHEMA_DEPTH_MAX {
        return false;
    }
    let no_properties = serde_json::Map::new();
    let properties = fields
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&no_properties);
    if fields.get("type").is_some_and(|kind| kind == "object") {
        let required = fields.get("required").and_then(Value::as_array);
        let is_required = |name: &String| required.is_some_and(|names| names.iter().any(|known| known == name));
        if fields.get("additionalProperties") != Some(&Value::Bool(false)) || !properties.keys().all(is_required) {
            return false;
        }
    }
    let all = |keyword: &str| match fields.get(keyword) {
        Some(Value::Array(parts)) => parts.iter().all(|part| is_strict(part, depth + 1)),
        Some(Value::Object(parts)) if keyword.ends_with("efs") || keyword == "definitions" => {
            parts.values().all(|part| is_strict(part, depth + 1))
        }
        Some(part) => is_strict(part, depth + 1),
        None => true,
    };
    // Keywords that the guide does not list as supported.
    let is_plain = !["allOf", "oneOf", "not", "if", "patternProperties", "dependentSchemas"]
        .iter()
        .any(|keyword| fields.contains_key(*keyword));
    is_plain
        && properties.values().all(|part| is_strict(part, depth + 1))
        && ["items", "anyOf", "$defs", "definitions"]
            .iter()
            .all(|keyword| all(keyword))
}

#[derive(Serialize)]
struct Message<'a> {
    role: Role,
    content: Option<&'a Content>,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    tool_calls: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

impl<'a> Message<'a> {
    fn system(content: &'a Content) -> Self {
        Self {
            role: Role::System,
            content: Some(content),
            tool_calls: &[],
            tool_call_id: None,
        }
    }
}

impl<'a> From<&'a PromptMessage> for Message<'a> {
    fn from(message: &'a PromptMessage) -> Self {
        // A turn of tool calls alone has no content; some servers refuse an empty text.
        let is_empty = matches!(&message.content, Content::Text(text) if text.is_empty());
        let says_nothing = is_empty && !message.tool_calls.is_empty();
        Self {
            role: message.role,
            content: (!says_nothing).then_some(&message.content),
            tool_calls: &message.tool_calls,
            tool_call_id: message.tool_call_id.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(request: Value, support: SchemaSupport) -> Value {
        let request: CompleteRequest = serde_json::from_value(request).unwrap();
        serde_json::from_slice(&chat("gpt-4", &request, support).unwrap()).unwrap()
    }

    #[test]
    fn the_body_carries_blocks_verbatim() {
        let blocks = json!([{"type": "text", "text": "hi"}, {"type": "later", "deep": {"x": [1, null]}}]);
        let request = json!({"model": "x", "messages": [{"role": "user", "content": blocks}], "max_tokens": 5});
        let sent = sent(request, SchemaSupport::Schema);
        assert_eq!(sent["messages"][0]["content"], blocks);
        assert_eq!(sent["model"], "gpt-4");
        assert_eq!(sent["stream_options"]["include_usage"], true);
        assert_eq!(sent["max_tokens"], 5);
        for absent in ["temperature", "tools", "response_format"] {
            assert!(sent.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn the_body_carries_calls_and_results_in_the_shape_of_the_wire() {
        let call = json!({"id": "call_a", "type": "function", "function": {"name": "lookup", "arguments": "{}"},
                          "extra_content": {"kept": true}});
        let messages = json!([
            {"role": "user", "content": "where?"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "content": "Lviv", "tool_call_id": "call_a"},
            {"role": "assistant", "content": "Let me see", "tool_calls": [call]},
            {"role": "user", "content": ""}
        ]);
        let mut typed = messages.clone();
        typed[1]["content"] = json!("");
        let sent = sent(json!({"model": "x", "messages": typed}), SchemaSupport::Schema);
        assert_eq!(sent["messages"], messages);
    }

    #[test]
    fn models_that_think_first_get_what_they_take() {
        for (model, thinks) in [
            ("o3-mini", true),
            ("openai/gpt-5.1", true),
            ("gpt-5-chat-latest", false),
            ("gpt-4o", false),
            ("qwen3", false),
        ] {
            let request = json!({"model": "x", "temperature": 0.7, "max_tokens": 9,
                                 "messages": [{"role": "user", "content": "a"}]});
            let request: CompleteRequest = serde_json::from_value(request).unwrap();
            let sent = chat(model, &request, SchemaSupport::Schema).unwrap();
            let sent: Value = serde_json::from_slice(&sent).unwrap();
            let bound = if thinks { "max_completion_tokens" } else { "max_tokens" };
            assert_eq!(sent[bound], 9, "{model}");
            assert_eq!(sent.get("temperature").is_none(), thinks, "{model}");
        }
    }

    fn with_schema(schema: &Value) -> Value {
        json!({"model": "x", "response_schema": schema, "messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "where?"}]})
    }

    #[test]
    fn a_schema_is_told_as_the_server_takes_it() {
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}},
                            "required": ["city"], "additionalProperties": false});
        let native = sent(with_schema(&schema), SchemaSupport::Schema);
        let told = json!({"type": "json_schema",
                          "json_schema": {"name": "answer", "schema": schema, "strict": true}});
        assert_eq!(native["response_format"], told);
        assert_eq!(native["messages"].as_array().unwrap().len(), 2);
        let object = sent(with_schema(&schema), SchemaSupport::Object);
        assert_eq!(object["response_format"], json!({"type": "json_object"}));
        assert_eq!(object["messages"][1]["role"], "system");
        let text = object["messages"][1]["content"].as_str().unwrap();
        // The wire refuses `json_object` where the prompt does not say JSON.
        assert!(text.contains("JSON") && text.contains("\"city\""), "{text}");
    }

    #[test]
    fn only_a_strict_schema_says_so() {
        let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
        for (schema, is_strict) in [
            (closed.clone(), true),
            (json!({"type": "array", "items": closed}), false),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}}),
                false,
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
                false,
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}},
                       "required": ["a"], "additionalProperties": false}),
                false,
            ),
            (
                json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"],
                       "additionalProperties": false, "$defs": {"a": closed}}),
                true,
            ),
        ] {
            let sent = sent(with_schema(&schema), SchemaSupport::Schema);
            let said = &sent["response_format"]["json_schema"]["strict"];
            assert_eq!(*said == json!(true), is_strict, "{schema}");
        }
    }
}
