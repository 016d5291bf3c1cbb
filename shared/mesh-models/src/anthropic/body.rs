//! The body of one `/v1/messages`: a conversation in the mesh's shape, told in Anthropic's. Pure.
//!
//! There, the system's words stand apart, turns alternate and begin with the user's, calls and their results are blocks
//! of the turns, and ids of calls are unique.

use std::collections::BTreeSet;

use mesh_api::inference::{CompleteRequest, FunctionCall, PromptMessage, Role};
use mesh_types::content::Content;
use serde_json::{Map, Value, json};

use crate::answer::TryError;
use crate::conversation::{CallIds, Image, arguments_object};

/// The tool by whose call the model gives an answer that follows a schema.
pub(super) const ANSWER_TOOL: &str = "structured_answer";
/// Where the answer is within that tool's input, if its schema is not of an object.
pub(super) const ANSWER_FIELD: &str = "answer";
/// Anthropic's scale of temperatures ends here; OpenAI's at 2.
const TEMPERATURE_MAX: f64 = 1.0;
/// Said for the user where a conversation does not begin with one.
const BEGINNING: &str = "(what was said before is left out)";

pub(super) fn messages(model: &str, request: &CompleteRequest, max_tokens: u32) -> Result<Vec<u8>, TryError> {
    let mut turns = Turns::default();
    for message in &request.messages {
        turns.take(message)?;
    }
    let called = std::mem::take(&mut turns.called);
    let (system, messages) = turns.end();
    let mut body = json!({
        "model": model,
        "max_tokens": request.max_tokens.unwrap_or(max_tokens),
        "messages": messages,
        "stream": true,
    });
    if !system.is_empty() {
        body["system"] = Value::Array(system);
    }
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature.min(TEMPERATURE_MAX));
    }
    let mut tools: Vec<Value> = request.tools.iter().map(tool).collect();
    if let Some(schema) = &request.response_schema {
        // With tools of its own, the model may call these first; some tool it must call.
        body["tool_choice"] = if tools.is_empty() {
            json!({"type": "tool", "name": ANSWER_TOOL})
        } else {
            json!({"type": "any"})
        };
        tools.push(json!({
            "name": ANSWER_TOOL,
            "description": "Gives your answer to the user, in the form that is asked for.",
            "input_schema": answer_schema(schema),
        }));
    }
    if tools.is_empty() && !called.is_empty() {
        // Calls in a conversation must be of known tools, though none is offered any more.
        tools.extend(
            called
                .iter()
                .map(|name| json!({"name": name, "input_schema": {"type": "object"}})),
        );
        body["tool_choice"] = json!({"type": "none"});
    }
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    serde_json::to_vec(&body).map_err(|error| TryError::Unsupported(format!("it has no JSON form: {error}")))
}

/// Whether the schema can be a tool's input as it is.
pub(super) fn is_of_object(schema: &Value) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object")
}

fn answer_schema(schema: &Value) -> Value {
    if is_of_object(schema) {
        return schema.clone();
    }
    let mut inner = schema.clone();
    let mut outer = json!({"type": "object", "required": [ANSWER_FIELD]});
    // References count from the root.
    for definitions in ["$defs", "definitions"] {
        if let Some(moved) = inner.as_object_mut().and_then(|fields| fields.remove(definitions)) {
            outer[definitions] = moved;
        }
    }
    outer["properties"] = json!({ANSWER_FIELD: inner});
    outer
}

/// From `{"type":"function","function":{…}}`; tools of Anthropic's own kinds go as they are.
fn tool(tool: &Value) -> Value {
    let Some(function) = tool.get("function") else {
        return tool.clone();
    };
    let no_arguments = || json!({"type": "object", "properties": {}});
    let mut told = json!({
        "name": function["name"],
        "input_schema": function.get("parameters").filter(|schema| schema.is_object()).cloned().unwrap_or_else(no_arguments),
    });
    if let Some(description) = function.get("description").filter(|text| text.is_string()) {
        told["description"] = description.clone();
    }
    told
}

#[derive(Default)]
struct Turns {
    system: Vec<Value>,
    /// Role and blocks; neighbours differ in their role.
    turns: Vec<(&'static str, Vec<Value>)>,
    ids: CallIds,
    /// Names of all tools that were called.
    called: BTreeSet<String>,
}

impl Turns {
    fn take(&mut self, message: &PromptMessage) -> Result<(), TryError> {
        match message.role {
            Role::System => self.system.extend(blocks(&message.content)?),
            Role::User => self.add("user", blocks(&message.content)?),
            Role::Assistant => {
                let mut said = blocks(&message.content)?;
                for call in message.tool_calls.iter().filter_map(FunctionCall::parse) {
                    let id = self.ids.begin(&call.id);
                    let input = arguments_object(&call.arguments);
                    self.called.insert(call.name.clone());
                    said.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
                }
                self.add("assistant", said);
            }
            Role::Tool => {
                let result = self.result(message)?;
                self.add("user", vec![result]);
            }
        }
        Ok(())
    }

    fn result(&self, message: &PromptMessage) -> Result<Value, TryError> {
        let id = message.tool_call_id.as_deref().unwrap_or_default();
        let id = self
            .ids
            .result(id)
            .ok_or_else(|| TryError::Unsupported(format!("a tool's result answers call `{id}`, which nobody made")))?;
        let mut result = json!({"type": "tool_result", "tool_use_id": id});
        let content = blocks(&message.content)?;
        if !content.is_empty() {
            result["content"] = Value::Array(content);
        }
        Ok(result)
    }

    /// Neighbours of one role become one turn; empty ones are refused by the API and say nothing.
    fn add(&mut self, role: &'static str, blocks: Vec<Value>) {
        match self.turns.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, said)) if *last == role => said.extend(blocks),
            _ => self.turns.push((role, blocks)),
        }
    }

    fn end(mut self) -> (Vec<Value>, Vec<Value>) {
        if self.turns.is_empty() {
            // Instructions alone: they are what is to be answered.
            let blocks = std::mem::take(&mut self.system);
            self.add("user", blocks);
        }
        if self.turns.first().is_none_or(|(role, _)| *role != "user") {
            self.turns.insert(0, ("user", vec![text(BEGINNING)]));
        }
        if let Some(("assistant", blocks)) = self.turns.last_mut()
            && let Some(last) = blocks.last_mut()
        {
            // An answer that is begun for the model must not end in white space.
            let begun = last
                .get("text")
                .and_then(Value::as_str)
                .map(|text| text.trim_end().to_owned());
            if let Some(begun) = begun {
                last["text"] = json!(begun);
            }
        }
        let turns = self.turns.into_iter();
        let turns = turns
            .map(|(role, blocks)| json!({"role": role, "content": blocks}))
            .collect();
        (self.system, turns)
    }
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn blocks(content: &Content) -> Result<Vec<Value>, TryError> {
    match content {
        Content::Text(said) if said.trim().is_empty() => Ok(Vec::new()),
        Content::Text(said) => Ok(vec![text(said)]),
        Content::Blocks(blocks) => blocks
            .iter()
            .filter_map(|block| self::block(block).transpose())
            .collect(),
    }
}

/// `None`: it says nothing. Blocks of Anthropic's own kinds, and kinds that we do not know, go as they are: their API
/// says by itself what it does not take.
fn block(block: &Value) -> Result<Option<Value>, TryError> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "text" => {
            let says_something = block["text"].as_str().is_some_and(|text| !text.trim().is_empty());
            Ok(says_something.then(|| block.clone()))
        }
        "image_url" => match Image::of(block) {
            Some(Image::Data { media_type, base64 }) => Ok(Some(image(
                json!({"type": "base64", "media_type": media_type, "data": base64}),
                block,
            ))),
            Some(Image::Url(url)) => Ok(Some(image(json!({"type": "url", "url": url}), block))),
            None => Err(TryError::Unsupported(
                "an `image_url` block has neither a URL nor base64 data".to_owned(),
            )),
        },
        // OpenAI's kinds that have no counterpart.
        "input_audio" | "file" | "audio" | "video_url" => Err(TryError::Unsupported(format!(
            "Anthropic's API has no block of kind `{kind}`; send text, images or its own `document` blocks"
        ))),
        _ => Ok(Some(block.clone())),
    }
}

/// With the mark for the provider's cache, if the block has one.
fn image(source: Value, block: &Value) -> Value {
    let mut image = Map::from_iter([("type".to_owned(), json!("image")), ("source".to_owned(), source)]);
    if let Some(mark) = block.get("cache_control") {
        image.insert("cache_control".to_owned(), mark.clone());
    }
    Value::Object(image)
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
