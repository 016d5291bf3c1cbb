//! Events of `/v1/messages`, and its whole documents, assembled into an answer in the mesh's shape. Pure.

use std::collections::BTreeMap;

use mesh_api::inference::{CompleteRequest, FunctionCall};
use serde::Deserialize;
use serde_json::Value;

use super::body::{ANSWER_FIELD, ANSWER_TOOL, is_of_object};
use crate::answer::{Answer, Tokens, TryError};
use crate::conversation::{turns, whole_call};
use crate::http::error_message;
use crate::read::{Assemble, Heard};

/// Most blocks of one answer; a hostile stream must not make us allocate.
const BLOCKS_MAX: usize = 1_024;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: usize,
        content_block: BlockWire,
    },
    ContentBlockDelta {
        index: usize,
        delta: Delta,
    },
    MessageDelta {
        delta: MessageEnd,
        #[serde(default)]
        usage: Option<UsageWire>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    /// A whole answer, where a server does not stream.
    Message(Message),
    /// `ping`, `content_block_stop`, and what comes later: the API asks its clients to let them pass.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Vec<BlockWire>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Option<UsageWire>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockWire {
    Text {
        #[serde(default)]
        text: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Value,
    },
    /// Thoughts, and what tools on the provider's side did.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct MessageEnd {
    #[serde(default)]
    stop_reason: Option<String>,
}

/// Counts are totals so far: later ones replace earlier ones.
#[derive(Debug, Default, Deserialize)]
struct UsageWire {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
}

/// How the answer of a request with a schema comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As text.
    Text,
    /// The input of the answer tool.
    Input,
    /// One field of that input.
    Field,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Call(FunctionCall),
    /// Of the answer tool.
    Answer(String),
}

/// Collects the events of one stream.
#[derive(Debug)]
pub(crate) struct Assembly {
    turn: usize,
    form: Form,
    blocks: BTreeMap<usize, Block>,
    usage: Option<UsageWire>,
    stop_reason: Option<String>,
    is_done: bool,
}

impl Assembly {
    pub(crate) fn new(request: &CompleteRequest) -> Self {
        let form = match &request.response_schema {
            None => Form::Text,
            Some(schema) if is_of_object(schema) => Form::Input,
            Some(_) => Form::Field,
        };
        Self {
            turn: turns(request),
            form,
            blocks: BTreeMap::new(),
            usage: None,
            stop_reason: None,
            is_done: false,
        }
    }

    fn count(&mut self, usage: Option<UsageWire>) {
        let Some(usage) = usage else { return };
        let known = self.usage.get_or_insert_default();
        let replace = |known: &mut Option<u64>, count: Option<u64>| *known = count.or(*known);
        replace(&mut known.input_tokens, usage.input_tokens);
        replace(&mut known.output_tokens, usage.output_tokens);
        replace(&mut known.cache_read_input_tokens, usage.cache_read_input_tokens);
        replace(
            &mut known.cache_creation_input_tokens,
            usage.cache_creation_input_tokens,
        );
    }

    fn begin(&mut self, index: usize, block: BlockWire) -> Result<Heard, TryError> {
        if self.blocks.len() >= BLOCKS_MAX {
            return Err(TryError::Protocol(format!("more than {BLOCKS_MAX} blocks")));
        }
        match block {
            BlockWire::Text { text } => {
                self.blocks.insert(index, Block::Text(String::new()));
                self.add_text(index, text)
            }
            BlockWire::ToolUse { id, name, input } => {
                // While it streams, the input begins as an empty object and comes in pieces.
                let is_begun = input.as_object().is_some_and(|fields| !fields.is_empty());
                let arguments = if is_begun { input.to_string() } else { String::new() };
                let is_answer = self.form != Form::Text && name == ANSWER_TOOL;
                let block = if is_answer {
                    Block::Answer(String::new())
                } else {
                    let arguments = String::new();
                    Block::Call(FunctionCall { id, name, arguments })
                };
                self.blocks.insert(index, block);
                self.add_input(index, arguments)
            }
            BlockWire::Other => Ok(Heard::Progress),
        }
    }

    fn add_text(&mut self, index: usize, text: String) -> Result<Heard, TryError> {
        let Some(Block::Text(said)) = self.blocks.get_mut(&index) else {
            return Err(misplaced(index));
        };
        said.push_str(&text);
        Ok(match self.form {
            _ if text.is_empty() => Heard::Nothing,
            Form::Text => Heard::Text(text),
            // Words beside an answer that follows a schema are no part of it.
            Form::Input | Form::Field => Heard::Progress,
        })
    }

    fn add_input(&mut self, index: usize, piece: String) -> Result<Heard, TryError> {
        match self.blocks.get_mut(&index) {
            Some(Block::Call(call)) => {
                call.arguments.push_str(&piece);
                Ok(Heard::Progress)
            }
            Some(Block::Answer(input)) => {
                input.push_str(&piece);
                let is_told = self.form == Form::Input && !piece.is_empty();
                Ok(if is_told { Heard::Text(piece) } else { Heard::Progress })
            }
            // The input of a tool on the provider's side.
            None => Ok(Heard::Progress),
            Some(Block::Text(_)) => Err(misplaced(index)),
        }
    }

    fn take_message(&mut self, message: Message) -> Result<Heard, TryError> {
        self.count(message.usage);
        self.stop_reason = message.stop_reason.or(self.stop_reason.take());
        let mut text = String::new();
        for (index, block) in message.content.into_iter().enumerate() {
            if let Heard::Text(more) = self.begin(index, block)? {
                text.push_str(&more);
            }
        }
        Ok(if text.is_empty() {
            Heard::Nothing
        } else {
            Heard::Text(text)
        })
    }
}

fn misplaced(index: usize) -> TryError {
    TryError::Protocol(format!("block {index} is not what its piece says"))
}

impl Assemble for Assembly {
    fn take(&mut self, frame: &str) -> Result<Heard, TryError> {
        let event: Event = serde_json::from_str(frame)
            .map_err(|error| TryError::Protocol(format!("an event is none of a message: {error}")))?;
        match event {
            Event::MessageStart { message } | Event::Message(message) => self.take_message(message),
            Event::ContentBlockStart { index, content_block } => self.begin(index, content_block),
            Event::ContentBlockDelta { index, delta } => match delta {
                Delta::Text { text } => self.add_text(index, text),
                Delta::Input { partial_json } => self.add_input(index, partial_json),
                Delta::Other => Ok(Heard::Progress),
            },
            Event::MessageDelta { delta, usage } => {
                self.count(usage);
                self.stop_reason = delta.stop_reason.or(self.stop_reason.take());
                Ok(Heard::Nothing)
            }
            Event::MessageStop => {
                self.is_done = true;
                Ok(Heard::Nothing)
            }
            Event::Error { error } => Err(stream_error(&error)),
            Event::Other => Ok(Heard::Nothing),
        }
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn is_whole(&self) -> bool {
        self.stop_reason.is_some() || (self.is_done && !self.blocks.is_empty())
    }

    fn tokens(&self) -> Option<Tokens> {
        let usage = self.usage.as_ref()?;
        let cached = usage.cache_read_input_tokens.unwrap_or_default();
        let cache_written = usage.cache_creation_input_tokens.unwrap_or_default();
        Some(Tokens {
            // Anthropic counts these three apart.
            input: usage
                .input_tokens
                .unwrap_or_default()
                .saturating_add(cached)
                .saturating_add(cache_written),
            output: usage.output_tokens.unwrap_or_default(),
            cached,
            cache_written,
        })
    }

    fn end(self) -> Result<Answer, TryError> {
        if !self.is_whole() {
            return Err(TryError::Cut);
        }
        let tokens = self.tokens();
        let (mut text, mut answer, mut calls) = (String::new(), None, Vec::new());
        for block in self.blocks.into_values() {
            match block {
                Block::Text(said) => text.push_str(&said),
                Block::Answer(input) => answer = Some(input),
                Block::Call(call) => calls.push(whole_call(self.turn, calls.len(), call)),
            }
        }
        let has_answer = answer.is_some();
        if let Some(input) = answer.map(|input| if input.is_empty() { "{}".to_owned() } else { input }) {
            text = match self.form {
                Form::Field => field_of(&input),
                _ => input,
            };
        }
        let finish_reason = match self.stop_reason.as_deref() {
            Some("max_tokens" | "model_context_window_exceeded") => "length",
            Some("refusal") => "content_filter",
            Some("tool_use") if !calls.is_empty() => "tool_calls",
            Some("tool_use") if has_answer => "stop",
            None if !calls.is_empty() => "tool_calls",
            None | Some("end_turn" | "stop_sequence") => "stop",
            Some(other) => other,
        };
        Ok(Answer {
            text,
            tool_calls: calls.iter().map(FunctionCall::to_value).collect(),
            finish_reason: finish_reason.to_owned(),
            tokens,
        })
    }
}

/// What is within the answer tool's input; an input that was cut off is told as it is, and fails where it is checked.
fn field_of(input: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(input).ok();
    let field = parsed.as_ref().and_then(|input| input.get(ANSWER_FIELD));
    field.map_or_else(|| input.to_owned(), Value::to_string)
}

/// The pairs of the API's page "Errors".
fn stream_error(error: &Value) -> TryError {
    let status = match error.get("type").and_then(Value::as_str).unwrap_or_default() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    };
    TryError::Status {
        status,
        message: error_message(error),
        retry_after: None,
    }
}
