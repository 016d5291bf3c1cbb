//! `mock`: a deterministic model without a network. Keyword answers, or a script: the same request, the same answer.

mod embed;
mod keywords;
mod script;
mod template;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest, FunctionCall, Role};
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Config, Limits};
use mesh_models::{Answer, Chunks, Tokens, Try, TryError, estimate_tokens};

pub(crate) use embed::EMBED;
pub use script::{Counted, Fail, Offered, Script, ToolCall, Turn};

/// `mock:script:<name>` plays a script of this name.
pub const SCRIPT_PREFIX: &str = "mock:script:";
/// Of a request's metadata: the name of a script, or a whole one for names that are not known.
pub(crate) const SCRIPT_METADATA: &str = "mock_script";
/// Idempotency keys whose failures are counted; the oldest gives way.
const COUNTED_KEYS_MAX: usize = 65_536;

/// The mock provider with the scripts it knows.
#[derive(Debug)]
pub(crate) struct Mock {
    scripts: BTreeMap<String, Script>,
    keywords: Script,
    limits: Limits,
    failures: Mutex<Failures>,
}

/// Tries by idempotency key, model and turn.
#[derive(Debug, Default)]
struct Failures {
    tries: HashMap<Arc<str>, u32>,
    oldest_first: VecDeque<Arc<str>>,
}

impl Failures {
    /// Counts one more try, from 1.
    fn count(&mut self, key: String) -> u32 {
        let key: Arc<str> = key.into();
        if !self.tries.contains_key(&key) {
            self.oldest_first.push_back(Arc::clone(&key));
            if self.oldest_first.len() > COUNTED_KEYS_MAX
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.tries.remove(&oldest);
            }
        }
        let tries = self.tries.entry(key).or_default();
        *tries = tries.saturating_add(1);
        *tries
    }
}

impl Mock {
    /// The built-in scripts, with those of the configuration added or put in their place.
    pub(crate) fn new(config: &Config) -> Self {
        let mut scripts = script::built_in();
        scripts.extend(config.mock_scripts.clone());
        Self {
            scripts,
            keywords: script::keywords(config.mock_word_delay_ms),
            limits: config.limits.clone(),
            failures: Mutex::default(),
        }
    }

    /// Model names it answers to.
    pub(crate) fn models(&self) -> impl Iterator<Item = String> {
        let fixed = ["mock", EMBED].into_iter().map(str::to_owned);
        fixed.chain(self.scripts.keys().map(|name| format!("{SCRIPT_PREFIX}{name}")))
    }

    /// What it plays for this model and request; why there is nothing to play otherwise.
    pub(crate) fn script(&self, model: &str, request: &CompleteRequest) -> Result<Cow<'_, Script>, String> {
        let known = |name: &str| {
            let script = self.scripts.get(name).map(Cow::Borrowed);
            script.ok_or_else(|| format!("the mock has no script `{name}`"))
        };
        let of_model = match model.strip_prefix(SCRIPT_PREFIX) {
            Some(name) => known(name),
            None if model == "mock" => Ok(Cow::Borrowed(&self.keywords)),
            None => Err(format!("the mock has no `{model}`")),
        };
        match request.metadata.get(SCRIPT_METADATA) {
            Some(Value::String(name)) if model == "mock" => known(name),
            Some(script @ Value::Array(_)) if model == "mock" || of_model.is_err() => Script::deserialize(script)
                .map(Cow::Owned)
                .map_err(|error| format!("metadata.{SCRIPT_METADATA}: {error}")),
            _ => of_model,
        }
    }

    pub(crate) async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        let script = self.script(call.model, call.request).map_err(TryError::Protocol)?;
        let messages = &call.request.messages;
        let is_answer = |message: &&mesh_api::inference::PromptMessage| message.role == Role::Assistant;
        let turn = template::since_user(messages).iter().filter(is_answer).count();
        let Some((number, turn)) = script.turn(turn) else {
            return Err(TryError::Protocol("the script has no turn".to_owned()));
        };
        let fail = turn.fail.as_ref().filter(|fail| self.fails(fail, call, number));
        let mut answer = Answer::default();
        pause(turn.delay_ms).await;
        let pieces = pieces(turn, call.request);
        for piece in pieces.iter().take(fail.map_or(usize::MAX, |fail| fail.after_tokens)) {
            answer.text.push_str(piece);
            chunks.send(Chunk::Text(piece.clone())).await;
            pause(turn.per_token_ms).await;
        }
        if let Some(fail) = fail {
            return Err(failure(fail));
        }
        if turn.stall {
            return Err(self.stall(&answer).await);
        }
        let before = messages.iter().filter(is_answer).count();
        answer.tool_calls = tool_calls(turn, call.request)
            .enumerate()
            .map(|(index, (name, arguments))| {
                // By its place in the conversation: unique there, and the same at every repeat.
                let id = format!("call_{before}_{index}");
                FunctionCall { id, name, arguments }.to_value()
            })
            .collect();
        let reason = if answer.tool_calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        answer.finish_reason = turn.finish_reason.clone().unwrap_or_else(|| reason.to_owned());
        let counted = turn.usage.map(|usage| Tokens {
            input: usage.input_tokens,
            output: usage.output_tokens,
            ..Tokens::default()
        });
        answer.tokens = Some(counted.unwrap_or_else(|| estimate_tokens(call.request, &answer)));
        Ok(answer)
    }

    fn fails(&self, fail: &Fail, call: Try<'_>, turn: usize) -> bool {
        let Some(times) = fail.times else { return true };
        let tries = match &call.request.idempotency_key {
            None => call.attempt,
            Some(key) => {
                let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
                failures.count(format!("{key} {turn} {}", call.model))
            }
        };
        tries <= times
    }

    /// As a connection to a provider that fell silent: until the patience with it is over.
    async fn stall(&self, answer: &Answer) -> TryError {
        let (patience, what) = if answer.text.is_empty() {
            (self.limits.first_byte_timeout(), "the script sent nothing")
        } else {
            (self.limits.idle_timeout(), "the script fell silent")
        };
        tokio::time::sleep(patience).await;
        TryError::Timeout(what)
    }
}

/// Said where a turn is to call tools and none is offered.
const NO_TOOLS: &str = "No tool is offered.";

fn pieces(turn: &Turn, request: &CompleteRequest) -> Vec<String> {
    let filled = |text: &String| template::fill(text, &request.messages);
    let mut text = turn.text.as_ref().map(filled).unwrap_or_default();
    if let Some(schema) = &request.response_schema
        && turn.text.is_some()
        && serde_json::from_str::<Value>(&text).is_err()
    {
        text = template::of_schema(schema, &request.messages);
    }
    let mut pieces: Vec<String> = text.split_inclusive(char::is_whitespace).map(str::to_owned).collect();
    pieces.extend(turn.tokens.iter().map(filled));
    if pieces.is_empty() && turn.offered.is_some() && tool_calls(turn, request).next().is_none() {
        pieces.push(NO_TOOLS.to_owned());
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn tool_calls(turn: &Turn, request: &CompleteRequest) -> impl Iterator<Item = (String, String)> {
    let most = match turn.offered {
        None => 0,
        Some(Offered::First) => 1,
        Some(Offered::All) => usize::MAX,
    };
    let scripted = turn
        .tool_calls
        .iter()
        .map(|tool| template::call(tool, &request.messages));
    scripted.chain(template::offered(request).take(most))
}

fn failure(fail: &Fail) -> TryError {
    match fail.status {
        None => TryError::Cut,
        Some(status) => TryError::Status {
            status,
            message: fail.message.clone(),
            retry_after: None,
        },
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

#[cfg(test)]
mod tests;
