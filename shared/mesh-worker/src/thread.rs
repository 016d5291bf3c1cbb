//! The growing prompt of an invocation, and how it is recorded: as what is new since the model step before.
//!
//! A model step's input holds `"prompt":{"base":b,"keep":k,"new":[…]}`: the first `k` messages of model step `b`,
//! then the new ones; `base` is the model step before, or null for the first. It is never recorded in full again: a
//! full copy every 64 steps would make a journal of n steps hold n/64 times the growing prompt, which is far above
//! the 3× of its distinct text that history may take, while one fold of the journal expands all of them anyway.
//! The answer of the base itself is not written again: `{"answer_of":b}` stands for it among the new messages.
//! `"tools"` stands there only where it differs from the base's.

use mesh_api::inference::{Completion, PromptMessage, Role};
use mesh_api::journal::{Fact, Record, StepKind, Usage};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Stands for a message that the record of that model step holds.
const ANSWER_OF: &str = "answer_of";

/// What a model is asked, besides the options in the step's input.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) messages: Vec<PromptMessage>,
    pub(crate) tools: Vec<Value>,
}

#[derive(Default)]
pub(crate) struct Thread {
    /// What the next model step is asked; empty until the first one is planned.
    pub(crate) messages: Vec<PromptMessage>,
    last: Option<Last>,
    /// Recorded input of a model step that counts instead of the planned one, until it is done.
    adopted: Option<(u32, Asked)>,
}

/// The newest model step that is done, as its readers expand it.
struct Last {
    step: u32,
    prompt: Prompt,
    tools: Vec<Value>,
    /// What it answered, as the next prompt shows it.
    answer: PromptMessage,
}

enum Prompt {
    /// So many of the thread's messages.
    Same(usize),
    Other(Vec<PromptMessage>),
}

impl Thread {
    /// The next model step is asked this; what was recorded before stays as it was.
    pub(crate) fn replace(&mut self, messages: Vec<PromptMessage>) {
        if let Some(last) = &mut self.last
            && let Prompt::Same(count) = last.prompt
        {
            last.prompt = Prompt::Other(self.messages[..count].to_vec());
        }
        self.messages = messages;
    }

    /// `prompt` and, where it differs, `tools` of the next model step's input.
    pub(crate) fn record(&self, tools: &[Value], input: &mut Map<String, Value>) {
        let (base, keep, known) = match &self.last {
            None => (None, 0, &[][..]),
            Some(last) => {
                let keep = match &last.prompt {
                    Prompt::Same(count) => *count,
                    Prompt::Other(messages) => common(messages, &self.messages),
                };
                (Some(last.step), keep, last.tools.as_slice())
            }
        };
        let answer = self.last.as_ref().map(|last| (last.step, &last.answer));
        let new: Vec<Value> = self.messages[keep..]
            .iter()
            .map(|message| match answer {
                Some((step, answer)) if answer == message => json!({ANSWER_OF: step}),
                _ => json!(message),
            })
            .collect();
        let prompt = json!({"base": base, "keep": keep, "new": new});
        input.insert("prompt".to_owned(), prompt);
        if known != tools {
            input.insert("tools".to_owned(), Value::Array(tools.to_vec()));
        }
    }

    /// The recorded input of a model step counts. With `goes_on_from_it` the thread is what it says.
    pub(crate) fn adopt(&mut self, step: u32, input: &Value, goes_on_from_it: bool) {
        let asked = self.expand(input);
        if goes_on_from_it {
            self.replace(asked.messages.clone());
        }
        self.adopted = Some((step, asked));
    }

    /// A model step is done; `tools` are the planned ones.
    pub(crate) fn done(&mut self, step: u32, tools: &[Value], answer: PromptMessage) {
        let (prompt, tools) = match self.adopted.take() {
            Some((adopted, asked)) if adopted == step => (Prompt::Other(asked.messages), asked.tools),
            _ => (Prompt::Same(self.messages.len()), tools.to_vec()),
        };
        self.last = Some(Last {
            step,
            prompt,
            tools,
            answer,
        });
    }

    fn expand(&self, input: &Value) -> Asked {
        let base = match &self.last {
            None => &[][..],
            Some(Last { prompt, .. }) => match prompt {
                Prompt::Same(count) => &self.messages[..*count],
                Prompt::Other(messages) => messages,
            },
        };
        let tools = self.last.as_ref().map_or(&[][..], |last| &last.tools);
        Asked {
            messages: expand(input, base, self.last.as_ref().map(|last| &last.answer)),
            tools: recorded_tools(input).unwrap_or_else(|| tools.to_vec()),
        }
    }
}

/// The full prompt of every model step, by its number. `records` are those of one invocation, of a fork with the
/// inherited ones before its own; other records are skipped. What cannot be read is empty.
pub fn expand_prompts<'r>(records: impl IntoIterator<Item = &'r Record>) -> BTreeMap<u32, Vec<PromptMessage>> {
    let mut prompts: BTreeMap<u32, Vec<PromptMessage>> = BTreeMap::new();
    let mut answers: BTreeMap<u32, PromptMessage> = BTreeMap::new();
    for record in records {
        if let Fact::Done(done) = &record.fact
            && done.kind == StepKind::Model
            && let Some(Ok(completion)) = done.output.as_ref().map(Completion::deserialize)
        {
            answers.insert(done.step, answer_of(&completion, done.step));
        }
        let (step, input) = match &record.fact {
            Fact::Begun(begun) if begun.kind == StepKind::Model => (begun.step, &begun.input),
            Fact::Done(done) if done.kind == StepKind::Model => match &done.input {
                Some(input) => (done.step, input),
                None => continue,
            },
            _ => continue,
        };
        let base = input["prompt"]["base"]
            .as_u64()
            .and_then(|base| u32::try_from(base).ok());
        let known = base.and_then(|base| prompts.get(&base)).map_or(&[][..], Vec::as_slice);
        let messages = expand(input, known, base.and_then(|base| answers.get(&base)));
        prompts.insert(step, messages);
    }
    prompts
}

/// Also of the form that earlier versions wrote, with all `messages`.
fn expand(input: &Value, base: &[PromptMessage], answer: Option<&PromptMessage>) -> Vec<PromptMessage> {
    if let Some(messages) = input.get("messages") {
        return Vec::deserialize(messages).unwrap_or_default();
    }
    let prompt = &input["prompt"];
    let keep = prompt["keep"]
        .as_u64()
        .and_then(|keep| usize::try_from(keep).ok())
        .unwrap_or(0);
    let mut messages = base[..keep.min(base.len())].to_vec();
    let new = prompt["new"].as_array().map_or(&[][..], Vec::as_slice);
    messages.extend(new.iter().filter_map(|message| match message.get(ANSWER_OF) {
        Some(_) => answer.cloned(),
        None => PromptMessage::deserialize(message).ok(),
    }));
    messages
}

fn recorded_tools(input: &Value) -> Option<Vec<Value>> {
    input.get("tools")?.as_array().cloned()
}

fn common(left: &[PromptMessage], right: &[PromptMessage]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

/// A completion that a person wrote: all of one, or its text.
pub(crate) fn completion_of(output: &Value) -> Value {
    if Completion::deserialize(output).is_ok() {
        return output.clone();
    }
    let calls = output["tool_calls"].as_array().cloned().unwrap_or_default();
    let completion = Completion {
        text: said(output).unwrap_or_default().to_owned(),
        model: "edited".to_owned(),
        provider: "edited".to_owned(),
        usage: Usage::default(),
        usage_estimated: false,
        failed: Vec::new(),
        finish_reason: if calls.is_empty() { "stop" } else { "tool_calls" }.to_owned(),
        tool_calls: calls,
        attempt: 1,
        cached_tokens: 0,
        from_cache: false,
    };
    serde_json::to_value(completion).expect("texts and JSON values always serialise")
}

/// The text of an edited completion.
pub(crate) fn said(output: &Value) -> Option<&str> {
    output.as_str().or_else(|| output.get("text")?.as_str())
}

/// The assistant's turn as the next prompt shows it.
pub(crate) fn answer_of(completion: &Completion, step: u32) -> PromptMessage {
    PromptMessage {
        tool_calls: calls_of(completion, step),
        ..PromptMessage::new(Role::Assistant, completion.text.as_str())
    }
}

/// The answer that the record of a model step holds, as the next prompt shows it; `None`: it is none.
pub fn answer_message(output: &Value, step: u32) -> Option<Value> {
    let completion = Completion::deserialize(output).ok()?;
    serde_json::to_value(answer_of(&completion, step)).ok()
}

/// Its calls. Results are matched to calls by the id: models that give none, or one twice, get one.
fn calls_of(completion: &Completion, step: u32) -> Vec<Value> {
    let mut ids = BTreeSet::new();
    let named = completion.tool_calls.iter().enumerate().map(|(at, call)| {
        let mut call = call.clone();
        let id = call["id"].as_str().unwrap_or_default().to_owned();
        if id.is_empty() || !ids.insert(id) {
            let id = format!("call_{step}_{at}");
            ids.insert(id.clone());
            if let Some(call) = call.as_object_mut() {
                call.insert("id".to_owned(), Value::from(id));
            }
        }
        call
    });
    named.collect()
}
