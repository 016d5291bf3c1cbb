//! Runtime `llm`: which steps follow which, and with what input. Pure; the effects are in `steps` and `tools`.

use std::borrow::Cow;

use mesh_api::inference::Completion;
use mesh_api::journal::{Done, Effect, Ended, StepKind};
use mesh_api::knowledge::KnowledgeHit;
use mesh_api::memory::{Hit, MemoryType};
use mesh_api::messaging::Message;
use mesh_types::{Code, Problem};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::calls::Toolbox;
use crate::ends::{completed, gave_up};
use crate::forked::Forked;
use crate::grant::Task;
use crate::group::{StepPlan, Steps, Todo};
use crate::limits::{Used, reached};
use crate::prompt::{Found, PromptLimits, assemble_context, last_user_text, sha256_of};
use crate::request::Request;
use crate::thread::{Asked, Thread, answer_of};
use crate::turn::Turn;

/// Longest text by which memories are looked for, in bytes: embedders read no more.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Longest text of each side of a remembered exchange, in bytes; a memory holds 32 KiB.
const REMEMBERED_BYTES_MAX: usize = 12 * 1024;

/// The model comes again as long as it calls tools.
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
    forked: Option<Forked<'a>>,
    request: Request,
    toolbox: Toolbox<'a>,
    /// Kinds of [`ORDER`] that are behind us, run or skipped.
    passed: usize,
    history: Vec<Message>,
    memories: Vec<Hit>,
    passages: Vec<KnowledgeHit>,
    thread: Thread,
    turn: Option<Turn>,
    completion: Option<Completion>,
    /// Calls of the caller's tools: he runs them.
    handed_over: Vec<Value>,
    failed: Option<Problem>,
    used: Used,
}

impl<'a> Llm<'a> {
    /// Fails if the payload cannot be understood.
    pub(crate) fn new(task: Task<'a>, forked: Option<Forked<'a>>) -> Result<Self, Problem> {
        let request = Request::parse(&task.input.payload)?;
        let own = task.spec.tools.iter();
        request.brought.check_against(own.map(|tool| tool.name.as_str()))?;
        Ok(Self {
            task,
            forked,
            toolbox: Toolbox::new(task, &request),
            request,
            passed: 0,
            history: Vec::new(),
            memories: Vec::new(),
            passages: Vec::new(),
            thread: Thread::default(),
            turn: None,
            completion: None,
            handed_over: Vec::new(),
            failed: None,
            used: Used::default(),
        })
    }

    pub(crate) fn merge(&mut self, payload: &Value) {
        self.request.merge(payload);
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        self.used.usage = self.used.usage.plus(done.usage);
        let Some(at) = ORDER.iter().position(|kind| *kind == done.kind) else {
            if let Some(turn) = &mut self.turn {
                turn.apply(done);
            }
            return;
        };
        self.passed = at + 1;
        let read = match (&done.error, &done.output) {
            (Some(_), _) if is_best_effort(done.kind) => Ok(()),
            (Some(problem), _) => Err(problem.clone()),
            (None, output) => self.read(done, output.as_ref().unwrap_or(&Value::Null)),
        };
        self.failed = read.err();
    }

    fn read(&mut self, done: &Done, output: &Value) -> Result<(), Problem> {
        let kind = done.kind;
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
                if let Some(passages) = output.get("knowledge") {
                    self.passages = Vec::deserialize(passages).map_err(unreadable)?;
                }
            }
            StepKind::Model => {
                let completion = Completion::deserialize(output).map_err(unreadable)?;
                self.answered(done, completion);
            }
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, done: &Done, completion: Completion) {
        self.used.iterations += 1;
        let answer = answer_of(&completion, done.step);
        if self.request.brought.answers_all(&answer.tool_calls) {
            self.handed_over.clone_from(&answer.tool_calls);
            self.completion = Some(completion);
            return;
        }
        self.thread.done(done.step, &self.toolbox.offered, answer);
        self.turn = Turn::new(&completion, &self.toolbox, done.step, done.ended_at);
        if let Some(turn) = &self.turn {
            self.passed -= 1;
            let calls = u32::try_from(turn.len()).unwrap_or(u32::MAX);
            self.used.tool_calls = self.used.tool_calls.saturating_add(calls);
        }
        self.completion = Some(completion);
    }

    pub(crate) fn group(&mut self, step: u32) -> Result<Steps, Box<Ended>> {
        if let Some(problem) = &self.failed {
            return Err(self.end(gave_up(problem.clone())));
        }
        if let Some(completion) = self.completion.as_ref().filter(|_| !self.handed_over.is_empty()) {
            let output = json!({"text": completion.text, "tool_calls": self.handed_over});
            return Err(self.end(completed(Some(output))));
        }
        if let Some(turn) = &mut self.turn {
            if let Some(ended) = reached(&self.task.spec.limits, self.used, false) {
                return Err(self.end(ended));
            }
            if let Some(steps) = turn.steps(step, self.task.invocation, self.forked.as_mut()) {
                return Ok(steps);
            }
        }
        if let Some(turn) = self.turn.take() {
            self.thread.messages.extend(turn.into_messages());
        }
        for kind in ORDER.into_iter().skip(self.passed) {
            if kind == StepKind::Model
                && let Some(ended) = reached(&self.task.spec.limits, self.used, true)
            {
                return Err(self.end(ended));
            }
            if let Some(input) = self.input(kind, step) {
                return Ok(Steps::One(self.step(step, kind, input)));
            }
        }
        let output = self.completion.as_ref();
        let output = output.map(|completion| json!({"text": completion.text}));
        Err(self.end(completed(output)))
    }

    fn end(&self, ended: Ended) -> Box<Ended> {
        Box::new(Ended {
            usage: self.used.usage,
            provider: self.completion.as_ref().map(|completion| completion.provider.clone()),
            ..ended
        })
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
            todo: Todo::Effect,
        }
    }

    /// The step's input, or nothing where the step is not wanted.
    fn input(&mut self, kind: StepKind, step: u32) -> Option<Value> {
        let spec = self.task.spec;
        match kind {
            StepKind::ContextMessages => {
                let channel = self.request.channel.as_ref().filter(|_| spec.context.history > 0)?;
                Some(json!({"channel_id": channel, "limit": spec.context.history}))
            }
            StepKind::ContextMemories => {
                let memory = &spec.memory;
                let query = self
                    .user_text(QUERY_BYTES_MAX)
                    .filter(|_| memory.query_top_k > 0 || !memory.knowledge.is_empty())?;
                let mut input = json!({"query": query, "k": memory.query_top_k});
                if !memory.knowledge.is_empty() {
                    input["knowledge"] = json!(memory.knowledge);
                }
                Some(self.whose(input))
            }
            StepKind::Model => {
                self.prepare(step);
                let mut input = self.options();
                self.thread.record(&self.toolbox.offered, &mut input);
                Some(Value::Object(input))
            }
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
                // The agent's own, whoever spoke: it remembers in every conversation. Session and user only say of
                // which one it is.
                Some(self.whose(json!({
                    "type": MemoryType::Episodic,
                    "content": format!("User: {says}\nAgent: {reply}"),
                    "metadata": {"user_message": says, "agent_reply": reply},
                })))
            }
            _ => None,
        }
    }

    /// With the session and the user that the invocation has.
    fn whose(&self, mut input: Value) -> Value {
        if let Some(session) = &self.task.input.session {
            input["session"] = json!(session);
        }
        if let Some(user) = self.task.user() {
            input["user"] = json!(user);
        }
        input
    }

    /// Makes the thread what that model step is asked.
    fn prepare(&mut self, step: u32) {
        let edited = self.forked.as_ref().filter(|forked| forked.from_step == step);
        if let Some(messages) = edited.and_then(|forked| forked.edit.prompt.as_ref()) {
            self.thread.replace(messages.clone());
        } else if self.thread.messages.is_empty() {
            let Task { agent, spec, .. } = self.task;
            let limits = PromptLimits::of(spec);
            let found = Found {
                memories: &self.memories,
                passages: &self.passages,
            };
            let prompt = assemble_context(agent, spec, &self.request, &self.history, found, limits);
            self.thread.messages = prompt.messages;
        }
    }

    fn options(&self) -> Map<String, Value> {
        let model = &self.task.spec.model;
        let mut metadata = json!({"messages": self.history.len(), "memories": self.memories.len()});
        if !self.passages.is_empty() {
            metadata["passages"] = json!(self.passages.len());
        }
        let options = json!({
            "model": model.name,
            "fallbacks": model.fallbacks,
            "temperature": model.temperature,
            "max_tokens": model.max_tokens,
            "metadata": metadata,
        });
        let Value::Object(mut options) = options else {
            return Map::new();
        };
        self.request.brought.apply(&mut options);
        options
    }

    /// Of the model step that is next.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            messages: self.thread.messages.clone(),
            tools: self.toolbox.offered.clone(),
        }
    }

    /// Whether the recorded input, which is not the planned one, is the same as an earlier version wrote it.
    pub(crate) fn is_same_in_old_form(&self, plan: &StepPlan, recorded: &Value) -> bool {
        match plan.kind {
            StepKind::Model => self.is_whole_prompt(recorded) || self.tells_of_builtins(&plan.input, recorded),
            StepKind::ContextMemories | StepKind::MemoryStore => is_without_whose(&plan.input, recorded),
            _ => false,
        }
    }

    /// The first versions recorded all messages and their hash, and offered no tools.
    fn is_whole_prompt(&self, recorded: &Value) -> bool {
        if recorded.get("messages").is_none() {
            return false;
        }
        let mut old = self.options();
        old.insert("messages".to_owned(), json!(self.thread.messages));
        old.insert("prompt_sha256".to_owned(), json!(sha256_of(&self.thread.messages)));
        recorded.as_object() == Some(&old)
    }

    fn tells_of_builtins(&self, planned: &Value, recorded: &Value) -> bool {
        let (Some(planned), Some(recorded)) = (planned.as_object(), recorded.as_object()) else {
            return false;
        };
        let Some(Value::Array(tools)) = recorded.get("tools") else {
            return false;
        };
        let rest = |(field, value): (&String, &Value)| field == "tools" || recorded.get(field) == Some(value);
        planned.contains_key("tools")
            && planned.len() == recorded.len()
            && planned.iter().all(rest)
            && self.toolbox.is_same_but_for_builtins(tools)
    }

    /// The model was told of its tools in those words: it is told no others on the way.
    pub(crate) fn goes_on_as(&mut self, recorded: &Value) {
        if let Some(Value::Array(tools)) = recorded.get("tools") {
            self.toolbox.offered.clone_from(tools);
        }
    }

    pub(crate) fn adopt(&mut self, step: u32, input: &Value, goes_on_from_it: bool) {
        self.thread.adopt(step, input, goes_on_from_it);
    }

    pub(crate) fn ask(&mut self, step: u32) -> Option<StepPlan> {
        self.turn.as_mut()?.ask(step)
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
}

/// At most so many bytes, never within a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Earlier versions did not record whose memories a step is about.
fn is_without_whose(planned: &Value, recorded: &Value) -> bool {
    let (Value::Object(planned), Value::Object(recorded)) = (planned, recorded) else {
        return false;
    };
    let is_whose = |field: &str| matches!(field, "session" | "user");
    let known = planned.iter().filter(|(field, _)| !is_whose(field));
    !recorded.keys().any(|field| is_whose(field)) && known.eq(recorded.iter())
}
