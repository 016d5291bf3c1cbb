//! Runtime `llm`: which step follows which, and with what input. Pure; the effects are in `steps`.

use std::borrow::Cow;

use mesh_api::inference::Completion;
use mesh_api::journal::{Done, Effect, Ended, Outcome, StepKind, Usage};
use mesh_api::memory::{Hit, MemoryType};
use mesh_api::messaging::Message;
use mesh_types::{Code, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::grant::Task;
use crate::plan::{Action, StepPlan, failed};
use crate::prompt::{PromptLimits, assemble_context, last_user_text};
use crate::request::Request;

/// Longest text by which memories are looked for, in bytes: embedders read no more.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Longest text of each side of a remembered exchange, in bytes; a memory holds 32 KiB.
const REMEMBERED_BYTES_MAX: usize = 12 * 1024;

const ORDER: [StepKind; 5] = [
    StepKind::ContextMessages,
    StepKind::ContextMemories,
    StepKind::Model,
    StepKind::MessagePost,
    StepKind::MemoryStore,
];

/// Whether the run can go on without the step's result.
pub(crate) fn is_best_effort(kind: StepKind) -> bool {
    matches!(kind, StepKind::ContextMemories | StepKind::MemoryStore)
}

pub(crate) struct Llm<'a> {
    task: Task<'a>,
    request: Request,
    /// Kinds of [`ORDER`] that are behind us, run or skipped.
    passed: usize,
    history: Vec<Message>,
    memories: Vec<Hit>,
    completion: Option<Completion>,
    failed: Option<Problem>,
    usage: Usage,
}

impl<'a> Llm<'a> {
    /// Fails if the payload cannot be understood.
    pub(crate) fn new(task: Task<'a>) -> Result<Self, Problem> {
        Ok(Self {
            task,
            request: Request::parse(&task.input.payload)?,
            passed: 0,
            history: Vec::new(),
            memories: Vec::new(),
            completion: None,
            failed: None,
            usage: Usage::default(),
        })
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        self.passed = ORDER
            .iter()
            .position(|kind| *kind == done.kind)
            .map_or(ORDER.len(), |at| at + 1);
        self.usage = self.usage.plus(done.usage);
        let read = match (&done.error, &done.output) {
            (Some(_), _) if is_best_effort(done.kind) => Ok(()),
            (Some(problem), _) => Err(problem.clone()),
            (None, output) => self.read(done.kind, output.as_ref().unwrap_or(&Value::Null)),
        };
        self.failed = read.err();
    }

    fn read(&mut self, kind: StepKind, output: &Value) -> Result<(), Problem> {
        let unreadable = |error: serde_json::Error| {
            Problem::new(
                Code::Internal,
                format!("the record of a {} step cannot be read: {error}", kind.as_str()),
            )
        };
        match kind {
            StepKind::ContextMessages => {
                self.history = Vec::deserialize(&output["messages"]).map_err(unreadable)?;
            }
            StepKind::ContextMemories => {
                self.memories = Vec::deserialize(&output["memories"]).map_err(unreadable)?;
            }
            StepKind::Model => {
                self.completion = Some(Completion::deserialize(output).map_err(unreadable)?);
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn plan(&self, step: u32) -> Action {
        if let Some(problem) = &self.failed {
            let ended = Ended {
                usage: self.usage,
                provider: self.provider(),
                ..failed(problem.clone())
            };
            return Action::End(Box::new(ended));
        }
        for kind in ORDER.into_iter().skip(self.passed) {
            if let Some(input) = self.input(kind) {
                return Action::Run(self.step(step, kind, input));
            }
        }
        Action::End(Box::new(Ended {
            outcome: Outcome::Completed,
            reason: None,
            output: self
                .completion
                .as_ref()
                .map(|completion| json!({"text": completion.text})),
            error: None,
            usage: self.usage,
            provider: self.provider(),
        }))
    }

    fn step(&self, step: u32, kind: StepKind, input: Value) -> StepPlan {
        let name = match kind {
            StepKind::Model => Cow::Owned(self.task.spec.model.name.clone()),
            other => Cow::Borrowed(other.as_str()),
        };
        let effect = match kind {
            StepKind::ContextMessages | StepKind::ContextMemories => Effect::Pure,
            _ => Effect::Idempotent,
        };
        StepPlan {
            step,
            kind,
            name,
            effect,
            input,
            begun: false,
        }
    }

    /// The step's input, or nothing where the step is not wanted.
    fn input(&self, kind: StepKind) -> Option<Value> {
        let spec = self.task.spec;
        match kind {
            StepKind::ContextMessages => {
                let channel = self.request.channel.as_ref().filter(|_| spec.context.history > 0)?;
                Some(json!({"channel_id": channel, "limit": spec.context.history}))
            }
            StepKind::ContextMemories => {
                let query = self
                    .user_text(QUERY_BYTES_MAX)
                    .filter(|_| spec.memory.query_top_k > 0)?;
                Some(json!({"query": query, "k": spec.memory.query_top_k}))
            }
            StepKind::Model => Some(self.model_input()),
            StepKind::MessagePost => {
                let channel = self.request.channel.as_ref()?;
                let completion = self.answer()?;
                Some(json!({
                    "channel_id": channel,
                    "text": completion.text,
                    "metadata": {"provider": completion.provider, "model": completion.model},
                }))
            }
            StepKind::MemoryStore => {
                let says = self.user_text(REMEMBERED_BYTES_MAX).filter(|_| spec.memory.writeback)?;
                let reply = cut(&self.answer()?.text, REMEMBERED_BYTES_MAX);
                Some(json!({
                    "type": MemoryType::Episodic,
                    "content": format!("User: {says}\nAgent: {reply}"),
                    "metadata": {"user_message": says, "agent_reply": reply},
                }))
            }
            _ => None,
        }
    }

    fn model_input(&self) -> Value {
        let Task { agent, spec, .. } = self.task;
        let limits = PromptLimits::of(spec);
        let prompt = assemble_context(agent, spec, &self.request, &self.history, &self.memories, limits);
        json!({
            "model": spec.model.name,
            "fallbacks": spec.model.fallbacks,
            "messages": prompt.messages,
            "temperature": spec.model.temperature,
            "max_tokens": spec.model.max_tokens,
            "metadata": {"messages": self.history.len(), "memories": self.memories.len()},
            "prompt_sha256": prompt.sha256,
        })
    }

    /// What there is to post and to remember; an empty answer is neither.
    fn answer(&self) -> Option<&Completion> {
        self.completion
            .as_ref()
            .filter(|completion| !completion.text.trim().is_empty())
    }

    fn user_text(&self, bytes_max: usize) -> Option<String> {
        let text = last_user_text(self.task.agent, &self.request, &self.history);
        (!text.trim().is_empty()).then(|| cut(&text, bytes_max).to_owned())
    }

    fn provider(&self) -> Option<String> {
        self.completion.as_ref().map(|completion| completion.provider.clone())
    }
}

/// At most so many bytes, never within a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
