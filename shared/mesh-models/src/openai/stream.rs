//! Events of `/chat/completions`, and its whole documents, assembled into an answer. Pure.

use mesh_api::inference::FunctionCall;
use mesh_types::content::Content;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Answer, Tokens, TryError};
use crate::conversation::whole_call;
use crate::http::error_message;
use crate::read::{Assemble, Heard};

/// Most tool calls of one answer; a hostile index must not make us allocate.
const TOOL_CALLS_MAX: usize = 128;

#[derive(Deserialize)]
struct Event {
    /// Absent or null beside a lone usage.
    #[serde(default)]
    choices: Option<Vec<Choice>>,
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
    /// Where a server answers at once although a stream was asked for; some send it beside each `delta`, with all that
    /// was said so far.
    #[serde(default)]
    message: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Content>,
    /// Why the model does not answer, in the place of its answer.
    #[serde(default)]
    refusal: Option<String>,
    /// What a model says to itself first, as DeepSeek and vLLM name it; OpenRouter says `reasoning`. Both are heard as
    /// signs of life and not kept: the wire does not take them back.
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default)]
    reasoning: Option<Value>,
    #[serde(default)]
    tool_calls: Option<Vec<ToolDelta>>,
}

impl Delta {
    fn has_thoughts(&self) -> bool {
        let says = |value: &Option<Value>| {
            value
                .as_ref()
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty())
        };
        says(&self.reasoning_content) || says(&self.reasoning)
    }
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
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    /// DeepSeek's name for what came from its cache.
    #[serde(default)]
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    /// OpenRouter's, of providers that ask for it.
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

impl From<UsageWire> for Tokens {
    fn from(usage: UsageWire) -> Self {
        let input = usage.prompt_tokens.unwrap_or_default();
        let details = usage.prompt_tokens_details.unwrap_or_default();
        let cached = details
            .cached_tokens
            .or(usage.prompt_cache_hit_tokens)
            .unwrap_or_default();
        Self {
            input,
            output: usage.completion_tokens.unwrap_or_default(),
            cached: cached.min(input),
            cache_written: details.cache_write_tokens.unwrap_or_default().min(input),
        }
    }
}

/// Collects the events of one stream.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Turns of the model before this one.
    turn: usize,
    text: String,
    calls: Vec<FunctionCall>,
    finish_reason: Option<String>,
    tokens: Option<Tokens>,
    is_done: bool,
}

impl Assembly {
    pub(crate) fn new(turn: usize) -> Self {
        Self {
            turn,
            text: String::new(),
            calls: Vec::new(),
            finish_reason: None,
            tokens: None,
            is_done: false,
        }
    }

    fn take_choice(&mut self, choice: Choice) -> Result<Heard, TryError> {
        let delta = choice.delta.or(choice.message).unwrap_or_default();
        let mut heard = if delta.has_thoughts() {
            Heard::Progress
        } else {
            Heard::Nothing
        };
        for call in delta.tool_calls.into_iter().flatten() {
            self.take_call(call)?;
            heard = Heard::Progress;
        }
        let said = delta.content.map(|content| content.plain_text()).unwrap_or_default();
        let text = said + delta.refusal.as_deref().unwrap_or_default();
        if !text.is_empty() {
            self.text.push_str(&text);
            heard = Heard::Text(text);
        }
        let reason = choice.finish_reason.filter(|reason| !reason.is_empty());
        self.finish_reason = reason.or(self.finish_reason.take());
        Ok(heard)
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
        // Some servers repeat the whole name with each piece of the arguments; others cut the name itself.
        let name = function.name.unwrap_or_default();
        if call.name != name {
            call.name.push_str(&name);
        }
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
}

impl Assemble for Assembly {
    fn take(&mut self, frame: &str) -> Result<Heard, TryError> {
        if frame.trim() == "[DONE]" {
            self.is_done = true;
            return Ok(Heard::Nothing);
        }
        let event: Event = serde_json::from_str(frame)
            .map_err(|error| TryError::Protocol(format!("an event is no chunk of a completion: {error}")))?;
        if let Some(error) = event.error {
            return Err(stream_error(&error));
        }
        if let Some(usage) = event.usage {
            self.tokens = Some(usage.into());
        }
        // Only one choice is ever asked for.
        let choice = event.choices.into_iter().flatten().find(|choice| choice.index == 0);
        choice.map_or(Ok(Heard::Nothing), |choice| self.take_choice(choice))
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn is_whole(&self) -> bool {
        self.finish_reason.is_some() || (self.is_done && (!self.text.is_empty() || !self.calls.is_empty()))
    }

    fn tokens(&self) -> Option<Tokens> {
        self.tokens
    }

    fn end(self) -> Result<Answer, TryError> {
        if !self.is_whole() {
            return Err(TryError::Cut);
        }
        if let Some(index) = self.calls.iter().position(|call| call.name.is_empty()) {
            return Err(TryError::Protocol(format!("tool call {index} has no name")));
        }
        let calls = self.calls.into_iter().enumerate();
        let tool_calls: Vec<Value> = calls
            .map(|(index, call)| whole_call(self.turn, index, call).to_value())
            .collect();
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

/// An error in the middle of a stream comes as an event; its `code` is a status, in digits or not, or a word.
fn stream_error(error: &Value) -> TryError {
    let number = |name: &str| match error.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let status = number("code")
        .or_else(|| number("status"))
        .and_then(|code| u16::try_from(code).ok());
    let words = ["code", "type"].iter().filter_map(|name| error.get(*name)?.as_str());
    let known = words.filter_map(status_of_word).next();
    TryError::Status {
        status: status
            .filter(|status| (400..600).contains(status))
            .or(known)
            .unwrap_or(502),
        message: error_message(error),
        retry_after: None,
    }
}

/// As OpenAI's error guide pairs them.
fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "rate_limit_exceeded" | "rate_limit_error" | "insufficient_quota" => 429,
        "invalid_request_error" | "context_length_exceeded" | "invalid_prompt" => 400,
        "invalid_api_key" | "authentication_error" => 401,
        "server_error" | "internal_error" => 500,
        "overloaded" | "service_unavailable" => 503,
        _ => return None,
    })
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
