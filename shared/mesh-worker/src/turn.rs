//! One model turn that calls tools: its calls become steps that run together, first those that need nobody's word
//! and the questions for the others, then the approved ones; the results go back to the model.

use std::borrow::Cow;

use mesh_api::inference::{Completion, FunctionCall, PromptMessage, Role};
use mesh_api::journal::{Done, Effect, StepKind, WaitOn};
use mesh_types::{Code, InvocationId, Problem, Timestamp};
use serde_json::{Map, Value, json};

use crate::calls::{Toolbox, Understood, Work};
use crate::forked::Forked;
use crate::group::{Settled, StepPlan, Steps, Todo};
use crate::steps::child_id;
use crate::thread::answer_of;

/// Longest text of one result in a prompt, in bytes; its record holds all that came.
pub(crate) const RESULT_BYTES_MAX: usize = 64 * 1024;
/// Calls of one turn that run; they run at the same time.
const CALLS_MAX: usize = 64;

pub(crate) struct Turn {
    assistant: PromptMessage,
    calls: Vec<Call>,
}

struct Call {
    id: String,
    name: String,
    understood: Understood,
    word: Word,
    /// Number of its newest step; 0: none yet.
    step: u32,
    /// What the model is told.
    result: Option<String>,
}

/// What people said of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    None,
    Asked,
    Given,
}

impl Turn {
    /// `None`: the model calls nothing. `at` is when it answered, `step` its step.
    pub(crate) fn new(completion: &Completion, toolbox: &Toolbox<'_>, step: u32, at: Timestamp) -> Option<Self> {
        if completion.tool_calls.is_empty() {
            return None;
        }
        let mut children = 0;
        let assistant = answer_of(completion, step);
        let calls = assistant.tool_calls.iter().enumerate().map(|(at_call, raw)| {
            let parsed = FunctionCall::parse(raw);
            let id = raw["id"].as_str().unwrap_or_default().to_owned();
            let understood = if at_call < CALLS_MAX {
                toolbox.understand(parsed.as_ref(), at, &mut children)
            } else {
                let why = format!("at most {CALLS_MAX} calls of one turn run: call it again");
                Understood::refused(Value::Null, Problem::new(Code::ToolInvalid, why))
            };
            Call {
                id,
                name: parsed.as_ref().map(|call| call.name.clone()).unwrap_or_default(),
                understood,
                word: Word::None,
                step: 0,
                result: None,
            }
        });
        let calls = calls.collect();
        Some(Self { assistant, calls })
    }

    /// Steps of the calls that have no result yet; `None`: all have.
    pub(crate) fn steps(
        &mut self,
        first: u32,
        invocation: InvocationId,
        mut forked: Option<&mut Forked<'_>>,
    ) -> Option<Steps> {
        let open = self.calls.iter_mut().filter(|call| call.result.is_none());
        let steps = open.zip(first..).map(|(call, step)| {
            call.step = step;
            call.plan(invocation, forked.as_deref_mut().filter(|forked| forked.is_own(step)))
        });
        Steps::of(steps.collect())
    }

    /// Asks a person before the call of that step.
    pub(crate) fn ask(&mut self, step: u32) -> Option<StepPlan> {
        let call = self.calls.iter_mut().find(|call| call.step == step)?;
        Some(call.approval())
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        let Some(call) = self.calls.iter_mut().find(|call| call.step == done.step) else {
            return;
        };
        if done.kind != StepKind::Approval {
            call.result = Some(result(done));
            return;
        }
        let output = done.output.as_ref().unwrap_or(&Value::Null);
        if output["approved"] == Value::Bool(true) {
            call.word = Word::Given;
            return;
        }
        let note = output["note"]
            .as_str()
            .map(|note| format!(": {note}"))
            .unwrap_or_default();
        call.result = Some(format!("denied{note}"));
    }

    /// The turn as the next prompt shows it: what the model asked for, and every result.
    pub(crate) fn into_messages(self) -> impl Iterator<Item = PromptMessage> {
        let results = self.calls.into_iter().map(|call| PromptMessage {
            tool_call_id: Some(call.id),
            ..PromptMessage::new(Role::Tool, call.result.unwrap_or_default())
        });
        std::iter::once(self.assistant).chain(results)
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

impl Call {
    fn plan(&mut self, invocation: InvocationId, forked: Option<&mut Forked<'_>>) -> StepPlan {
        let Understood { work, asks } = &self.understood;
        let mut asks = *asks;
        if let (
            Work::Tool {
                effect: Effect::AtMostOnce,
                arguments,
            },
            Some(forked),
        ) = (work, forked)
        {
            let input = json!({"arguments": arguments});
            if let Some(answer) = forked.answer(&self.name, &input) {
                let todo = Todo::Settle(Box::new(answer));
                return self.step(StepKind::Tool, Effect::AtMostOnce, input, todo);
            }
            asks = true;
        }
        if asks && self.word != Word::Given {
            return self.approval();
        }
        match &self.understood.work {
            Work::Refuse { arguments, problem } => self.refusal(arguments, problem),
            Work::Tool { effect, arguments } => {
                self.step(StepKind::Tool, *effect, json!({"arguments": arguments}), Todo::Effect)
            }
            Work::Child {
                agent,
                payload,
                session,
            } => {
                let child = child_id(invocation, self.step);
                let mut input = Map::from_iter([
                    ("invocation".to_owned(), json!(child)),
                    ("agent".to_owned(), json!(agent)),
                    ("payload".to_owned(), payload.clone()),
                ]);
                if let Some(session) = session {
                    input.insert("session".to_owned(), Value::from(session.as_str()));
                }
                self.wait(
                    StepKind::Child,
                    Value::Object(input),
                    WaitOn::Child { invocation: child },
                )
            }
            Work::Timer { until } => self.wait(
                StepKind::Timer,
                json!({"until": until}),
                WaitOn::Timer { until: *until },
            ),
            Work::Signal { name, until } => {
                let on = WaitOn::Signal {
                    name: name.clone(),
                    until: *until,
                };
                self.wait(StepKind::Signal, json!({"name": name, "until": until}), on)
            }
        }
    }

    fn approval(&mut self) -> StepPlan {
        self.word = Word::Asked;
        let arguments = match &self.understood.work {
            Work::Refuse { arguments, .. } | Work::Tool { arguments, .. } => arguments.clone(),
            Work::Child { payload, .. } => payload.clone(),
            Work::Timer { until } => json!({"until": until}),
            Work::Signal { name, until } => json!({"name": name, "until": until}),
        };
        approval_step(self.step, &self.name, &arguments)
    }

    fn refusal(&self, arguments: &Value, problem: &Problem) -> StepPlan {
        let todo = Todo::Settle(Box::new(Settled::error(problem.clone())));
        self.step(StepKind::Tool, Effect::Pure, json!({"arguments": arguments}), todo)
    }

    /// Nothing runs in the worker, so nothing can run twice.
    fn wait(&self, kind: StepKind, input: Value, on: WaitOn) -> StepPlan {
        self.step(kind, Effect::Idempotent, input, Todo::Wait(Box::new(on)))
    }

    fn step(&self, kind: StepKind, effect: Effect, input: Value, todo: Todo) -> StepPlan {
        StepPlan {
            step: self.step,
            kind,
            name: Cow::Owned(self.name.clone()),
            effect,
            input,
            begun: false,
            todo,
        }
    }
}

/// A question for a person: the step's `begun` shows what would run.
pub(crate) fn approval_step(step: u32, tool: &str, arguments: &Value) -> StepPlan {
    StepPlan {
        step,
        kind: StepKind::Approval,
        name: Cow::Owned(tool.to_owned()),
        effect: Effect::Idempotent,
        input: json!({"tool": tool, "arguments": arguments}),
        begun: false,
        todo: Todo::Wait(Box::new(WaitOn::Approval { tool: tool.to_owned() })),
    }
}

/// What the model is told of a step that is done.
fn result(done: &Done) -> String {
    let text = match (&done.error, &done.output) {
        (Some(problem), _) => {
            let next = problem
                .next
                .as_ref()
                .map(|next| format!(" ({next})"))
                .unwrap_or_default();
            format!("error: {problem}{next}")
        }
        (None, Some(output)) => said(done.kind, output),
        (None, None) => String::new(),
    };
    cut_result(text)
}

fn said(kind: StepKind, output: &Value) -> String {
    let shown: Value;
    let output = match (kind, output) {
        (StepKind::Child, _) => &output["output"],
        // By its key the journal knows which signal it was; nobody else cares.
        (StepKind::Signal, Value::Object(signal)) => {
            let known = signal.iter().filter(|(field, _)| *field != "key");
            shown = known.map(|(field, value)| (field.clone(), value.clone())).collect();
            &shown
        }
        _ => output,
    };
    match output {
        Value::String(text) => text.clone(),
        Value::Object(object) if object.len() == 1 => match object.get("text") {
            Some(Value::String(text)) => text.clone(),
            _ => output.to_string(),
        },
        other => other.to_string(),
    }
}

/// At most [`RESULT_BYTES_MAX`], with a note where something is missing.
fn cut_result(mut text: String) -> String {
    let bytes = text.len();
    if bytes > RESULT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(RESULT_BYTES_MAX));
        text.push_str(&format!("\n[cut: the result has {bytes} bytes]"));
    }
    text
}
