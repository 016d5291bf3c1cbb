//! Entrypoint `memory.consolidate` of an `llm` agent: many memories become a few facts. It reads them, asks the model
//! once, and stores each fact beside what it was made of; the sources stay. Pure; the effects are in `steps`.

use std::borrow::Cow;

use mesh_api::inference::Completion;
use mesh_api::journal::{Done, Effect, Ended, StepKind};
use mesh_api::memory::{CONSOLIDATE_ENTRYPOINT, ConsolidationPayload, MemoryType, Scope};
use mesh_types::agent::Runtime;
use mesh_types::{Code, MemoryId, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ends::{completed, gave_up};
use crate::facts::{self, Fact, Source};
use crate::forked::Forked;
use crate::grant::Task;
use crate::group::{StepPlan, Steps, Todo};
use crate::limits::{Used, reached};
use crate::thread::{Asked, Thread, answer_of};

/// Facts take more words than an answer in a chat: the model may use at least so many tokens.
const TOKENS_LEAST: u32 = 4_096;

/// Whether the invocation is one.
pub(crate) fn is_meant(task: &Task<'_>) -> bool {
    task.spec.runtime == Runtime::Llm && task.input.entrypoint == CONSOLIDATE_ENTRYPOINT
}

/// What the next group does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Read,
    Ask,
    Store,
    Over,
}

pub(crate) struct Consolidate<'a> {
    task: Task<'a>,
    forked: Option<Forked<'a>>,
    stage: Stage,
    ids: Vec<MemoryId>,
    sources: Vec<Source>,
    thread: Thread,
    completion: Option<Completion>,
    facts: Vec<Fact>,
    stored: u32,
    failed: Option<Problem>,
    used: Used,
}

impl<'a> Consolidate<'a> {
    /// Fails if the payload names no memories.
    pub(crate) fn new(task: Task<'a>, forked: Option<Forked<'a>>) -> Result<Self, Problem> {
        let payload = ConsolidationPayload::deserialize(&task.input.payload).map_err(|error| {
            Problem::new(Code::InvalidRequest, format!("payload: {error}"))
                .field("payload.memories")
                .next("the memory service starts this by itself; `mesh memories consolidate` does it now")
        })?;
        Ok(Self {
            task,
            forked,
            stage: Stage::Read,
            ids: payload.memories,
            sources: Vec::new(),
            thread: Thread::default(),
            completion: None,
            facts: Vec::new(),
            stored: 0,
            failed: None,
            used: Used::default(),
        })
    }

    pub(crate) fn group(&mut self, step: u32) -> Result<Steps, Box<Ended>> {
        if let Some(problem) = &self.failed {
            return Err(self.end(gave_up(problem.clone())));
        }
        let steps = match self.stage {
            Stage::Read if !self.ids.is_empty() => {
                let input = json!({"ids": self.ids});
                let kind = StepKind::ContextMemories;
                Some(vec![self.step(step, kind, Cow::Borrowed(kind.as_str()), input)])
            }
            Stage::Ask if !self.sources.is_empty() => {
                if let Some(ended) = reached(&self.task.spec.limits, self.used, true) {
                    return Err(self.end(ended));
                }
                let input = self.question(step);
                let name = Cow::Owned(self.task.spec.model.name.clone());
                Some(vec![self.step(step, StepKind::Model, name, input)])
            }
            Stage::Store => {
                self.stage = Stage::Over;
                let kind = StepKind::MemoryStore;
                let planned = self.facts.iter().zip(step..).map(|(fact, step)| {
                    let input = self.stored_as(fact);
                    self.step(step, kind, Cow::Borrowed(kind.as_str()), input)
                });
                Some(planned.collect())
            }
            Stage::Read | Stage::Ask | Stage::Over => None,
        };
        match steps.and_then(Steps::of) {
            Some(steps) => Ok(steps),
            None => Err(self.end(completed(Some(json!({"facts": self.stored}))))),
        }
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        self.used.usage = self.used.usage.plus(done.usage);
        let read = match (&done.error, done.kind) {
            (Some(problem), _) => Err(problem.clone()),
            (None, kind) => self.read(kind, done),
        };
        if let Err(problem) = read {
            self.failed.get_or_insert(problem);
        }
    }

    fn read(&mut self, kind: StepKind, done: &Done) -> Result<(), Problem> {
        let output = done.output.as_ref().unwrap_or(&Value::Null);
        let unreadable = |error: serde_json::Error| {
            let why = format!("the record of a {} step cannot be read: {error}", kind.as_str());
            Problem::new(Code::Internal, why)
        };
        match kind {
            StepKind::ContextMemories => {
                let read = Vec::deserialize(&output["memories"]).map_err(unreadable)?;
                self.sources = facts::of_one_owner(read);
                self.stage = Stage::Ask;
            }
            StepKind::Model => {
                let completion = Completion::deserialize(output).map_err(unreadable)?;
                self.used.iterations += 1;
                self.thread.done(done.step, &[], answer_of(&completion, done.step));
                self.facts = facts::parse(&completion.text, &self.sources)?;
                self.completion = Some(completion);
                self.stage = Stage::Store;
            }
            StepKind::MemoryStore => self.stored += 1,
            _ => {}
        }
        Ok(())
    }

    fn end(&self, ended: Ended) -> Box<Ended> {
        Box::new(Ended {
            usage: self.used.usage,
            provider: self.completion.as_ref().map(|completion| completion.provider.clone()),
            ..ended
        })
    }

    fn step(&self, step: u32, kind: StepKind, name: Cow<'static, str>, input: Value) -> StepPlan {
        StepPlan {
            step,
            kind,
            name,
            effect: match kind {
                StepKind::ContextMemories => Effect::Pure,
                _ => Effect::Idempotent,
            },
            input,
            begun: false,
            todo: Todo::Effect,
        }
    }

    /// Input of the model step; the thread is what it is asked.
    fn question(&mut self, step: u32) -> Value {
        let Task { agent, spec, .. } = self.task;
        let edited = self.forked.as_ref().filter(|forked| forked.from_step == step);
        let messages = edited.and_then(|forked| forked.edit.prompt.clone());
        let shown = facts::shown(&self.sources);
        self.thread
            .replace(messages.unwrap_or_else(|| facts::prompt(agent, spec, &self.sources[..shown])));
        let model = &spec.model;
        let mut input = Map::from_iter([
            ("model".to_owned(), json!(model.name)),
            ("fallbacks".to_owned(), json!(model.fallbacks)),
            ("temperature".to_owned(), json!(model.temperature)),
            ("max_tokens".to_owned(), json!(model.max_tokens.max(TOKENS_LEAST))),
            ("response_schema".to_owned(), facts::schema()),
            ("metadata".to_owned(), json!({"memories": shown})),
        ]);
        self.thread.record(&[], &mut input);
        Value::Object(input)
    }

    /// As its sources are: who may read one of them may read what was made of them, and nobody else.
    fn stored_as(&self, fact: &Fact) -> Value {
        let mut input = json!({
            "type": MemoryType::Semantic,
            "content": fact.content,
            "importance": fact.importance,
            "tags": fact.tags,
            "derived_from": fact.derived_from,
        });
        if let Some(source) = self.sources.first() {
            match source.scope {
                Scope::Session => {
                    input["scope"] = json!(source.scope);
                    input["session"] = json!(source.session);
                }
                Scope::User => {
                    input["scope"] = json!(source.scope);
                    input["user"] = json!(source.user);
                }
                // What all agents read was shared by somebody who may; what it condenses into is the agent's own.
                Scope::Agent | Scope::Tenant => {}
            }
        }
        input
    }

    pub(crate) fn asked(&self) -> Asked {
        Asked {
            messages: self.thread.messages.clone(),
            tools: Vec::new(),
        }
    }

    pub(crate) fn adopt(&mut self, step: u32, input: &Value, goes_on_from_it: bool) {
        self.thread.adopt(step, input, goes_on_from_it);
    }
}
