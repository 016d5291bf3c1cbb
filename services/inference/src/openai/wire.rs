//! The wire of `/chat/completions`: request body out, stream events in, assembled into an answer. Pure.

use mesh_api::inference::CompleteRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Answer, Tokens, TryError};

/// Most tool calls of one answer; a hostile index must not make us allocate.
const TOOL_CALLS_MAX: usize = 128;

/// The body of one streamed call. Messages, their blocks and the tools go out as they came in.
pub(super) fn body(model: &str, request: &CompleteRequest) -> Result<Vec<u8>, TryError> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        messages: &'a [mesh_api::inference::PromptMessage],
        stream: bool,
        stream_options: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        temperature: Option<f64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_tokens: Option<u32>,
        #[serde(skip_serializing_if = "<[Value]>::is_empty")]
        tools: &'a [Value],
    }
    let body = Body {
        model,
        messages: &request.messages,
        stream: true,
        stream_options: json!({"include_usage": true}),
        temperature: request.temperature,
        max_tokens: request.max_tokens,
        tools: &request.tools,
    };
    serde_json::to_vec(&body).map_err(|error| TryError::Protocol(format!("the request has no JSON form: {error}")))
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<UsageWire>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolDelta>>,
}

#[derive(Deserialize)]
struct ToolDelta {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct UsageWire {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

#[derive(Debug, Default)]
struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// Collects the events of one stream.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    text: String,
    calls: Vec<Call>,
    finish_reason: Option<String>,
    tokens: Option<Tokens>,
    is_done: bool,
}

impl Assembly {
    /// Takes the data of one event; answers the text it adds.
    pub(super) fn take(&mut self, data: &str) -> Result<Option<String>, TryError> {
        if data.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(None);
        }
        let event: Event = serde_json::from_str(data)
            .map_err(|error| TryError::Protocol(format!("an event is no chunk of a completion: {error}")))?;
        if let Some(error) = event.error {
            return Err(stream_error(&error));
        }
        if let Some(usage) = event.usage {
            self.tokens = Some(Tokens {
                input: usage.prompt_tokens,
                output: usage.completion_tokens,
            });
        }
        let mut added = None;
        // Only one choice is ever asked for.
        for choice in event.choices.into_iter().filter(|choice| choice.index == 0) {
            let delta = choice.delta.unwrap_or_default();
            for call in delta.tool_calls.into_iter().flatten() {
                self.take_call(call)?;
            }
            if let Some(text) = delta.content.filter(|text| !text.is_empty()) {
                self.text.push_str(&text);
                added = Some(text);
            }
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        Ok(added)
    }

    fn take_call(&mut self, delta: ToolDelta) -> Result<(), TryError> {
        if delta.index >= TOOL_CALLS_MAX {
            return Err(TryError::Protocol(format!("more than {TOOL_CALLS_MAX} tool calls")));
        }
        while self.calls.len() <= delta.index {
            self.calls.push(Call::default());
        }
        let call = &mut self.calls[delta.index];
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            call.id = id;
        }
        let Some(function) = delta.function else {
            return Ok(());
        };
        call.name.push_str(&function.name.unwrap_or_default());
        call.arguments.push_str(&function.arguments.unwrap_or_default());
        Ok(())
    }

    /// Whether nothing more is to be read.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether the answer is whole although the stream was not closed as it should be: only the usage may lack.
    pub(super) fn is_whole(&self) -> bool {
        self.is_done || self.finish_reason.is_some()
    }

    /// The answer, or [`TryError::Cut`] when neither a finish reason nor the end mark was seen.
    pub(super) fn end(self) -> Result<Answer, TryError> {
        if !self.is_whole() {
            return Err(TryError::Cut);
        }
        if let Some(index) = self.calls.iter().position(|call| call.name.is_empty()) {
            return Err(TryError::Protocol(format!("tool call {index} has no name")));
        }
        let tool_calls: Vec<Value> = self
            .calls
            .into_iter()
            .map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments});
                json!({"id": call.id, "type": "function", "function": function})
            })
            .collect();
        let otherwise = if tool_calls.is_empty() { "stop" } else { "tool_calls" };
        Ok(Answer {
            text: self.text,
            tool_calls,
            finish_reason: self.finish_reason.unwrap_or_else(|| otherwise.to_owned()),
            tokens: self.tokens,
        })
    }
}

/// An error in the middle of a stream comes as an event; its `code` is a status or a word.
fn stream_error(error: &Value) -> TryError {
    let status = error
        .get("code")
        .and_then(Value::as_u64)
        .and_then(|code| u16::try_from(code).ok());
    TryError::Status {
        status: status.filter(|status| (400..600).contains(status)).unwrap_or(502),
        message: error_message(error),
        retry_after: None,
    }
}

/// The text of `{"error":{"message":…}}`, `{"error":"…"}` or whatever came, shortened.
pub(super) fn error_message(value: &Value) -> String {
    let inner = value.get("error").unwrap_or(value);
    let text = inner.get("message").unwrap_or(inner);
    let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(events: &[Value]) -> Result<(Answer, Vec<String>), TryError> {
        let mut assembly = Assembly::default();
        let mut heard = Vec::new();
        for event in events {
            let data = event.as_str().map_or_else(|| event.to_string(), str::to_owned);
            heard.extend(assembly.take(&data)?);
        }
        assembly.end().map(|answer| (answer, heard))
    }

    fn text(text: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
    }

    fn finish(reason: &str) -> Value {
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    }

    #[test]
    fn chunks_and_usage_become_one_answer() {
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}});
        let (answer, heard) = assemble(&[
            text("Hel"),
            text(""),
            text("lo"),
            finish("stop"),
            usage,
            json!("[DONE]"),
        ])
        .unwrap();
        assert_eq!(answer.text, "Hello");
        assert_eq!(heard, ["Hel", "lo"]);
        assert_eq!(answer.tokens, Some(Tokens { input: 7, output: 2 }));
        assert_eq!(answer.finish_reason, "stop");
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(assemble(&[text("Hel")]).unwrap_err(), TryError::Cut);
        assert_eq!(assemble(&[]).unwrap_err(), TryError::Cut);
        assert_eq!(
            assemble(&[text("Hel"), finish("length")]).unwrap().0.finish_reason,
            "length"
        );
        assert_eq!(
            assemble(&[text("Hel"), json!("[DONE]")]).unwrap().0.finish_reason,
            "stop"
        );
    }

    #[test]
    fn tool_calls_are_put_together_by_index() {
        let call = |delta: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]});
        let (answer, _) = assemble(&[
            call(json!({"index": 1, "id": "b", "function": {"name": "two", "arguments": "{}"}})),
            call(json!({"index": 0, "id": "a", "type": "function", "function": {"name": "one", "arguments": ""}})),
            call(json!({"index": 0, "function": {"arguments": "{\"x\""}})),
            call(json!({"index": 0, "function": {"arguments": ":1}"}})),
            finish("tool_calls"),
        ])
        .unwrap();
        assert_eq!(
            answer.tool_calls[0],
            json!({"id": "a", "type": "function", "function": {"name": "one", "arguments": "{\"x\":1}"}})
        );
        assert_eq!(answer.tool_calls[1]["id"], "b");
        let far = call(json!({"index": 4_000_000_000_u64, "function": {"name": "x"}}));
        assert!(matches!(assemble(&[far]).unwrap_err(), TryError::Protocol(_)));
        let nameless = call(json!({"index": 1, "function": {"name": "x"}}));
        assert!(matches!(
            assemble(&[nameless, finish("stop")]).unwrap_err(),
            TryError::Protocol(_)
        ));
    }

    #[test]
    fn an_error_inside_the_stream_is_an_error() {
        let error = assemble(&[text("a"), json!({"error": {"message": "overloaded", "code": 503}})]).unwrap_err();
        assert!(
            error.is_transient() && error.to_string().contains("overloaded"),
            "{error}"
        );
        assert!(matches!(
            assemble(&[json!("<html>")]).unwrap_err(),
            TryError::Protocol(_)
        ));
    }

    #[test]
    fn the_body_carries_blocks_verbatim() {
        let blocks = json!([{"type": "text", "text": "hi"}, {"type": "later", "deep": {"x": [1, null]}}]);
        let request: CompleteRequest = serde_json::from_value(json!({
            "model": "x", "messages": [{"role": "user", "content": blocks}], "max_tokens": 5
        }))
        .unwrap();
        let sent: Value = serde_json::from_slice(&body("gpt-4", &request).unwrap()).unwrap();
        assert_eq!(sent["messages"][0]["content"], blocks);
        assert_eq!(sent["model"], "gpt-4");
        assert_eq!(sent["stream_options"]["include_usage"], true);
        assert_eq!(sent["max_tokens"], 5);
        assert!(sent.get("temperature").is_none() && sent.get("tools").is_none());
    }
}
