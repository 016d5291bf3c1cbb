//! `mock`: a deterministic model without a network. Keyword answers, or a script that tests write.

mod keywords;
mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_api::inference::{Chunk, CompleteRequest, Role};

use crate::answer::{Answer, Chunks, Tokens, Try, TryError, estimate_tokens};

pub use script::{Action, Fail, Script, ToolCall};

/// `mock:script:<name>` plays a script of this name.
pub const SCRIPT_PREFIX: &str = "mock:script:";

/// The mock provider with the scripts it knows.
#[derive(Debug, Clone)]
pub(crate) struct Mock {
    scripts: BTreeMap<String, Script>,
    word_delay: Duration,
}

impl Mock {
    /// The built-in scripts, with `scripts` added or put in their place.
    pub(crate) fn new(scripts: &BTreeMap<String, Script>, word_delay: Duration) -> Self {
        let mut all = script::built_in();
        all.extend(scripts.iter().map(|(name, script)| (name.clone(), script.clone())));
        Self {
            scripts: all,
            word_delay,
        }
    }

    /// Model names it answers to.
    pub(crate) fn models(&self) -> impl Iterator<Item = String> {
        std::iter::once("mock".to_owned()).chain(self.scripts.keys().map(|name| format!("{SCRIPT_PREFIX}{name}")))
    }

    pub(crate) fn knows(&self, model: &str) -> bool {
        model == "mock"
            || model
                .strip_prefix(SCRIPT_PREFIX)
                .is_some_and(|name| self.scripts.contains_key(name))
    }

    pub(crate) async fn attempt<C: Chunks>(&self, call: Try<'_>, chunks: &mut C) -> Result<Answer, TryError> {
        let asked = call
            .request
            .metadata
            .get("mock_script")
            .and_then(serde_json::Value::as_str);
        let name = call.model.strip_prefix(SCRIPT_PREFIX).or(asked);
        let keyword = [Action::Reply {}];
        let actions = match name {
            None => keyword.as_slice(),
            Some(name) => self
                .scripts
                .get(name)
                .ok_or_else(|| TryError::Protocol(format!("there is no script `{name}`")))?
                .turn(turn(call.request)),
        };
        let mut player = Player {
            answer: Answer::default(),
            tokens: None,
            word_delay: self.word_delay,
            chunks,
        };
        for action in actions {
            player.play(action, call).await?;
        }
        Ok(player.end(call.request))
    }
}

/// Which turn of the conversation this is: answers of the model since the last message of a person.
fn turn(request: &CompleteRequest) -> usize {
    let since_user = request
        .messages
        .iter()
        .rev()
        .take_while(|message| message.role != Role::User);
    since_user.filter(|message| message.role == Role::Assistant).count()
}

struct Player<'a, C> {
    answer: Answer,
    tokens: Option<Tokens>,
    word_delay: Duration,
    chunks: &'a mut C,
}

impl<C: Chunks> Player<'_, C> {
    async fn play(&mut self, action: &Action, call: Try<'_>) -> Result<(), TryError> {
        match action {
            Action::Reply {} => {
                self.words(&keywords::reply(&call.request.messages), self.word_delay)
                    .await
            }
            Action::Words { text, delay_ms } => self.words(text, Duration::from_millis(*delay_ms)).await,
            Action::Text(text) => self.text(text).await,
            Action::WaitMs(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
            Action::ToolCall(tool) => self.answer.tool_calls.push(tool.wire(self.answer.tool_calls.len())),
            Action::Usage {
                input_tokens,
                output_tokens,
            } => {
                self.tokens = Some(Tokens {
                    input: *input_tokens,
                    output: *output_tokens,
                });
            }
            Action::Fail(fail) if fail.applies(call.attempt) => {
                self.words(&fail.after, Duration::ZERO).await;
                return Err(TryError::Status {
                    status: fail.status,
                    message: fail.message.clone(),
                    retry_after: None,
                });
            }
            Action::Fail(_) => {}
            Action::Cut {} => return Err(TryError::Cut),
        }
        Ok(())
    }

    async fn words(&mut self, text: &str, delay: Duration) {
        for word in text.split_inclusive(char::is_whitespace) {
            self.text(word).await;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
    }

    async fn text(&mut self, text: &str) {
        self.answer.text.push_str(text);
        self.chunks.send(Chunk::Text(text.to_owned())).await;
    }

    fn end(self, request: &CompleteRequest) -> Answer {
        let mut answer = self.answer;
        answer.finish_reason = if answer.tool_calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        }
        .to_owned();
        answer.tokens = Some(self.tokens.unwrap_or_else(|| estimate_tokens(request, &answer)));
        answer
    }
}

#[cfg(test)]
mod tests;
