//! Runtimes `script`, `cli` and `http`: one step, which is the whole agent. Pure; the call is in `tools`.

use std::borrow::Cow;

use mesh_api::journal::{Done, Effect, Ended, StepKind, Usage};
use mesh_types::agent::{AgentSpec, Runtime};
use mesh_types::tool::Target;
use mesh_types::{Code, Problem};
use serde_json::{Map, Value, json};

use crate::ends::{completed, failed, gave_up};
use crate::forked::Forked;
use crate::grant::Task;
use crate::group::{StepPlan, Steps, Todo};
use crate::request::Request;
use crate::turn::approval_step;

pub(crate) struct Remote<'a> {
    task: Task<'a>,
    forked: Option<Forked<'a>>,
    name: String,
    effect: Effect,
    merged: Vec<Value>,
    is_approved: bool,
    end: Option<Box<Ended>>,
    usage: Usage,
}

impl<'a> Remote<'a> {
    /// Fails if the agent does not say what is to be called.
    pub(crate) fn new(task: Task<'a>, forked: Option<Forked<'a>>) -> Result<Self, Problem> {
        let (name, effect) = match target(task.spec)? {
            Target::Script(script) => (script.command.first().cloned().unwrap_or_default(), script.effect),
            Target::Cli(cli) => (cli.driver, None),
            Target::Http(http) => (host(&http.url).to_owned(), http.effect),
            Target::Tool(tool) => (tool.name.clone(), tool.effect),
        };
        Ok(Self {
            task,
            forked,
            name,
            effect: effect.unwrap_or(Effect::AtMostOnce),
            merged: Vec::new(),
            is_approved: false,
            end: None,
            usage: Usage::default(),
        })
    }

    pub(crate) fn merge(&mut self, payload: &Value) {
        self.merged.push(payload.clone());
    }

    pub(crate) fn group(&mut self, step: u32) -> Result<Steps, Box<Ended>> {
        if let Some(ended) = &self.end {
            return Err(ended.clone());
        }
        let arguments = self.arguments();
        let input = json!({"arguments": arguments});
        let asks = self.effect == Effect::AtMostOnce && !self.is_approved;
        let own = self.forked.as_mut().filter(|forked| asks && forked.is_own(step));
        let todo = match own.map(|forked| forked.answer(&self.name, &input)) {
            None => Todo::Effect,
            Some(Some(answer)) => Todo::Settle(Box::new(answer)),
            Some(None) => return Ok(Steps::One(approval_step(step, &self.name, &arguments))),
        };
        Ok(Steps::One(StepPlan {
            step,
            kind: StepKind::Tool,
            name: Cow::Owned(self.name.clone()),
            effect: self.effect,
            input,
            begun: false,
            todo,
        }))
    }

    pub(crate) fn ask(&self, step: u32) -> StepPlan {
        approval_step(step, &self.name, &self.arguments())
    }

    pub(crate) fn apply(&mut self, done: &Done) {
        self.usage = self.usage.plus(done.usage);
        let output = done.output.as_ref().unwrap_or(&Value::Null);
        let ended = match (&done.error, done.kind) {
            (Some(problem), _) => gave_up(problem.clone()),
            (None, StepKind::Approval) if output["approved"] == Value::Bool(true) => {
                self.is_approved = true;
                return;
            }
            (None, StepKind::Approval) => {
                let note = output["note"].as_str().unwrap_or("without a note");
                failed(Problem::new(
                    Code::Denied,
                    format!("a person denied the call of `{}`: {note}", self.name),
                ))
            }
            (None, _) => completed(done.output.clone()),
        };
        self.end = Some(Box::new(Ended {
            usage: self.usage,
            provider: (self.task.spec.runtime != Runtime::Script).then(|| self.name.clone()),
            ..ended
        }));
    }

    /// The payload as it came. A command line gets its instructions before what is asked, since it has one input.
    fn arguments(&self) -> Value {
        let payload = &self.task.input.payload;
        if self.task.spec.runtime == Runtime::Cli
            && let Some(text) = self.asked_in_words()
        {
            return json!({"text": text});
        }
        if self.merged.is_empty() {
            return payload.clone();
        }
        let mut arguments = match payload {
            Value::Object(object) => object.clone(),
            other => Map::from_iter([("payload".to_owned(), other.clone())]),
        };
        arguments.insert("merged".to_owned(), Value::Array(self.merged.clone()));
        Value::Object(arguments)
    }

    fn asked_in_words(&self) -> Option<String> {
        let mut request = Request::parse(&self.task.input.payload).ok()?;
        self.merged.iter().for_each(|payload| request.merge(payload));
        let asked = request.in_words();
        let instructions = self.task.spec.instructions.trim();
        let parts = std::iter::once(instructions.to_owned()).chain(asked);
        let parts: Vec<String> = parts.filter(|part| !part.trim().is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("\n\n"))
    }
}

/// What the runtime calls.
pub(crate) fn target(spec: &AgentSpec) -> Result<Target, Problem> {
    let target = match spec.runtime {
        Runtime::Script => spec.script.clone().map(Target::Script),
        Runtime::Cli => spec.cli.clone().map(Target::Cli),
        Runtime::Http => spec.http.clone().map(Target::Http),
        _ => None,
    };
    target.ok_or_else(|| {
        let field = format!("spec.{}", spec.runtime.as_str());
        Problem::new(Code::AgentInvalid, format!("{field} is missing")).field(field)
    })
}

/// `example.org:8080` of `https://user@example.org:8080/path`; of anything else the text itself.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
