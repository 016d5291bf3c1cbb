//! The wire of `/chat/completions`: request body out, stream events in, assembled into an answer. Pure.

use mesh_api::inference::{CompleteRequest, FunctionCall, PromptMessage, Role};
use mesh_types::content::Content;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::{Answer, Tokens, TryError};

/// Most tool calls of one answer; a hostile index must not make us allocate.
const TOOL_CALLS_MAX: usize = 128;

/// The body of one streamed call. Blocks, tools and tool calls go out as they came in.
pub(crate) fn body(model: &str, request: &CompleteRequest) -> Result<Vec<u8>, TryError> {
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
        #[serde(skip_serializing_if = "<[Value]>::is_empty")]
        tools: &'a [Value],
    }
    let body = Body {
        model,
        messages: request.messages.iter().map(Message::from).collect(),
        stream: true,
        stream_options: json!({"include_usage": true}),
        temperature: request.temperature,
        max_tokens: request.max_tokens,
        tools: &request.tools,
    };
    serde_json::to_vec(&body).map_err(|error| TryError::Protocol(format!("the request has no JSON form: {error}")))
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
    /// `message` where a server answers at once although a stream was asked for.
    #[serde(default, alias = "message")]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolDelta>>,
}

#[derive(Deserialize)]
struct ToolDelta {
    /// Some servers give none, and each call whole.
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    /// A piece of text; some servers give the object itself.
    #[serde(default)]
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct UsageWire {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Collects the events of one stream.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    text: String,
    calls: Vec<FunctionCall>,
    finish_reason: Option<String>,
    tokens: Option<Tokens>,
    is_done: bool,
}

impl Assembly {
    /// Takes the data of one event; answers the text it adds.
    pub(crate) fn take(&mut self, data: &str) -> Result<Option<String>, TryError> {
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
            let text = delta.content.map(|content| content.plain_text());
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.text.push_str(&text);
                added = Some(text);
            }
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        Ok(added)
    }

    /// The answer of a server that does not stream: one document, read as one event.
    pub(crate) fn take_whole(&mut self, document: &[u8]) -> Result<Option<String>, TryError> {
        let added = self.take(&String::from_utf8_lossy(document))?;
        if self.finish_reason.is_some() {
            return Ok(added);
        }
        Err(TryError::Protocol("its answer is no completion".to_owned()))
    }

    fn take_call(&mut self, delta: ToolDelta) -> Result<(), TryError> {
        let id = delta.id.filter(|id| !id.is_empty());
        let index = delta.index.unwrap_or_else(|| self.place(id.as_deref()));
        if index >= TOOL_CALLS_MAX {
            return Err(TryError::Protocol(format!("more than {TOOL_CALLS_MAX} tool calls")));
        }
        while self.calls.len() <= index {
            self.calls.push(FunctionCall {
                id: String::new(),
                name: String::new(),
                arguments: String::new(),
            });
        }
        let call = &mut self.calls[index];
        if let Some(id) = id {
            call.id = id;
        }
        let Some(function) = delta.function else {
            return Ok(());
        };
        call.name.push_str(&function.name.unwrap_or_default());
        match function.arguments {
            None | Some(Value::Null) => {}
            Some(Value::String(piece)) => call.arguments.push_str(&piece),
            Some(whole) => call.arguments.push_str(&whole.to_string()),
        }
        Ok(())
    }

    /// Where a call without an index belongs: an id that is new begins the next one, no id goes on with the last.
    fn place(&self, id: Option<&str>) -> usize {
        let known = self.calls.iter().position(|call| Some(call.id.as_str()) == id);
        let last = self.calls.len().saturating_sub(1);
        known.unwrap_or(if id.is_some() { self.calls.len() } else { last })
    }

    /// Whether nothing more is to be read.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether the answer is whole although the stream was not closed as it should be: only the usage may lack.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_done || self.finish_reason.is_some()
    }

    /// The answer, or [`TryError::Cut`] when neither a finish reason nor the end mark was seen.
    pub(crate) fn end(self) -> Result<Answer, TryError> {
        if !self.is_whole() {
            return Err(TryError::Cut);
        }
        if let Some(index) = self.calls.iter().position(|call| call.name.is_empty()) {
            return Err(TryError::Protocol(format!("tool call {index} has no name")));
        }
        let calls = self.calls.into_iter().enumerate();
        let tool_calls: Vec<Value> = calls.map(|(index, call)| whole(index, call).to_value()).collect();
        let finish_reason = match self.finish_reason {
            // Some servers end every answer so; who reads the reason must see the calls.
            Some(reason) if tool_calls.is_empty() || reason != "stop" => reason,
            _ if tool_calls.is_empty() => "stop".to_owned(),
            _ => "tool_calls".to_owned(),
        };
        Ok(Answer {
            text: self.text,
            tool_calls,
            finish_reason,
            tokens: self.tokens,
        })
    }
}

/// With what a server may leave out: results are told apart by the id, and arguments are JSON.
fn whole(index: usize, mut call: FunctionCall) -> FunctionCall {
    if call.id.is_empty() {
        call.id = format!("call_{index}");
    }
    if call.arguments.trim().is_empty() {
        call.arguments = "{}".to_owned();
    }
    call
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
pub(crate) fn error_message(value: &Value) -> String {
    let inner = value.get("error").unwrap_or(value);
    let text = inner.get("message").unwrap_or(inner);
    let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests;
