//! Lines of `/api/chat` and `/api/generate`, assembled into an answer. Pure.

use mesh_api::inference::FunctionCall;
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Answer, Tokens, TryError};
use crate::conversation::whole_call;
use crate::http::error_message;
use crate::read::{Assemble, Heard};

/// Most tool calls of one answer; a hostile stream must not make us allocate.
const TOOL_CALLS_MAX: usize = 128;

#[derive(Deserialize)]
struct Line {
    /// Of `/api/chat`.
    #[serde(default)]
    message: Option<Message>,
    /// Of `/api/generate`.
    #[serde(default)]
    response: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    thinking: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
}

/// Each comes whole, in one line.
#[derive(Deserialize)]
struct Call {
    /// Newer servers give one.
    #[serde(default)]
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Collects the lines of one stream.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Turns of the model before this one.
    turn: usize,
    text: String,
    calls: Vec<FunctionCall>,
    done_reason: Option<String>,
    tokens: Option<Tokens>,
    is_done: bool,
}

impl Assembly {
    pub(crate) fn new(turn: usize) -> Self {
        Self {
            turn,
            text: String::new(),
            calls: Vec::new(),
            done_reason: None,
            tokens: None,
            is_done: false,
        }
    }

    fn take_call(&mut self, call: Call) -> Result<(), TryError> {
        if self.calls.len() >= TOOL_CALLS_MAX {
            return Err(TryError::Protocol(format!("more than {TOOL_CALLS_MAX} tool calls")));
        }
        let arguments = match call.function.arguments {
            Value::Null => String::new(),
            Value::String(text) => text,
            object => object.to_string(),
        };
        let call = FunctionCall {
            id: call.id.unwrap_or_default(),
            name: call.function.name,
            arguments,
        };
        self.calls.push(whole_call(self.turn, self.calls.len(), call));
        Ok(())
    }
}

impl Assemble for Assembly {
    fn take(&mut self, frame: &str) -> Result<Heard, TryError> {
        let line: Line = serde_json::from_str(frame)
            .map_err(|error| TryError::Protocol(format!("a line is none of an answer: {error}")))?;
        if let Some(error) = line.error {
            // The status was sent before the model failed.
            return Err(TryError::Status {
                status: 500,
                message: error_message(&error),
                retry_after: None,
            });
        }
        let message = line.message.unwrap_or_default();
        let thoughts = message.thinking.or(line.thinking);
        let mut heard = match thoughts {
            Some(thoughts) if !thoughts.is_empty() => Heard::Progress,
            _ => Heard::Nothing,
        };
        for call in message.tool_calls.into_iter().flatten() {
            self.take_call(call)?;
            heard = Heard::Progress;
        }
        let text = message.content.or(line.response).unwrap_or_default();
        if !text.is_empty() {
            self.text.push_str(&text);
            heard = Heard::Text(text);
        }
        if line.prompt_eval_count.is_some() || line.eval_count.is_some() {
            self.tokens = Some(Tokens {
                input: line.prompt_eval_count.unwrap_or_default(),
                output: line.eval_count.unwrap_or_default(),
                ..Tokens::default()
            });
        }
        if line.done {
            self.is_done = true;
            self.done_reason = line.done_reason.filter(|reason| !reason.is_empty());
        }
        Ok(heard)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn is_whole(&self) -> bool {
        self.is_done
    }

    fn tokens(&self) -> Option<Tokens> {
        self.tokens
    }

    fn end(self) -> Result<Answer, TryError> {
        match self.done_reason.as_deref() {
            _ if !self.is_done => return Err(TryError::Cut),
            // The model was only read from the disk, or put away: nobody has answered.
            Some("load" | "unload") => {
                return Err(TryError::Status {
                    status: 503,
                    message: "the server loaded or unloaded the model instead of an answer".to_owned(),
                    retry_after: None,
                });
            }
            _ => {}
        }
        let finish_reason = match self.done_reason.as_deref() {
            None | Some("stop") if !self.calls.is_empty() => "tool_calls",
            None => "stop",
            Some(reason) => reason,
        };
        Ok(Answer {
            finish_reason: finish_reason.to_owned(),
            tool_calls: self.calls.iter().map(FunctionCall::to_value).collect(),
            text: self.text,
            tokens: self.tokens,
        })
    }
}
