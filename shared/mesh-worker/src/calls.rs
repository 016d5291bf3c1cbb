//! From a model's tool call to what is done about it: the declared tool is found, its arguments are parsed and
//! checked. What is wrong is told to the model as the call's result; it is no failure of the invocation.

use std::cell::OnceCell;
use std::str::FromStr;

use mesh_api::inference::FunctionCall;
use mesh_api::journal::Effect;
use mesh_types::agent::AgentSpec;
use mesh_types::tool::{ApprovalRule, ToolKind, ToolSpec, function};
use mesh_types::{AgentName, ChannelId, Code, Problem, Timestamp};
use serde_json::{Value, json};

use crate::builtins;
use crate::caller::Brought;
use crate::grant::Task;
use crate::request::Request;
use crate::schema::Schema;

/// Open children of one invocation, and invocations above one, where the agent does not say.
const CHILDREN_MAX: u32 = 16;
const DEPTH_MAX: u32 = 8;
const CREATES_TASKS: &str = "can_create_tasks";
const SHARES_MEMORIES: &str = "can_share_memories";

/// What one call comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// The model is told this; nothing runs.
    Refuse {
        arguments: Value,
        problem: Problem,
    },
    Tool {
        effect: Effect,
        arguments: Value,
    },
    Child {
        agent: AgentName,
        payload: Value,
        session: Option<String>,
    },
    Timer {
        until: Timestamp,
    },
    Signal {
        name: String,
        until: Option<Timestamp>,
    },
}

/// A call, understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Understood {
    pub(crate) work: Work,
    /// A person is asked before it runs.
    pub(crate) asks: bool,
}

impl Understood {
    pub(crate) fn refused(arguments: Value, problem: Problem) -> Self {
        Self {
            work: Work::Refuse { arguments, problem },
            asks: false,
        }
    }
}

/// The tools that the agent declares, and those that the caller brings.
pub(crate) struct Toolbox<'a> {
    task: Task<'a>,
    spec: &'a AgentSpec,
    channel: Option<ChannelId>,
    brought: Brought,
    /// As the model is told of them.
    pub(crate) offered: Vec<Value>,
    /// Parameters and their schema by tool, compiled when it is first called.
    schemas: Vec<OnceCell<Schema>>,
}

impl<'a> Toolbox<'a> {
    pub(crate) fn new(task: Task<'a>, request: &Request) -> Self {
        let spec = task.spec;
        let offered = spec.tools.iter().filter(|tool| is_allowed(spec, tool)).map(|tool| {
            let (description, parameters) = builtins::told(tool);
            function(&tool.name, &description, &parameters)
        });
        Self {
            task,
            spec,
            channel: request.channel.clone(),
            brought: request.brought.clone(),
            offered: offered.chain(request.brought.tools.iter().cloned()).collect(),
            schemas: spec.tools.iter().map(|_| OnceCell::new()).collect(),
        }
    }

    /// Whether those are the tools that are offered. What the mesh tells of its own builtins may change from version
    /// to version: an invocation that began under another one goes on.
    pub(crate) fn is_same_but_for_builtins(&self, recorded: &[Value]) -> bool {
        let is_same = |(ours, theirs): (&Value, &Value)| {
            let (ours, theirs) = (&ours["function"], &theirs["function"]);
            let declared = self.spec.tools.iter().find(|tool| ours["name"] == tool.name.as_str());
            ours == theirs
                || declared.is_some_and(|tool| {
                    let is_told_by_us = tool.description.trim().is_empty();
                    tool.kind == ToolKind::Builtin
                        && ours["name"] == theirs["name"]
                        && (is_told_by_us || ours["description"] == theirs["description"])
                })
        };
        self.offered.len() == recorded.len() && self.offered.iter().zip(recorded).all(is_same)
    }

    /// `at` is when the model answered: what waits counts from then. `children` are calls of agents in this turn.
    pub(crate) fn understand(&self, call: Option<&FunctionCall>, at: Timestamp, children: &mut u32) -> Understood {
        let Some(call) = call else {
            return Understood::refused(
                Value::Null,
                Problem::new(Code::ToolInvalid, "that is not a call of a function"),
            );
        };
        let (tool, arguments) = match self.checked(call) {
            Ok(checked) => checked,
            Err(problem) => return Understood::refused(Value::from(call.arguments.as_str()), problem),
        };
        match self.work(tool, arguments.clone(), at, children) {
            Ok(work) => Understood {
                work,
                asks: tool.approval == ApprovalRule::Always,
            },
            Err(problem) => Understood::refused(arguments, problem),
        }
    }

    fn checked(&self, call: &FunctionCall) -> Result<(&'a ToolSpec, Value), Problem> {
        let invalid = |why: String| Problem::new(Code::ToolInvalid, why).field("arguments");
        if self.brought.has(&call.name) {
            let why = format!("`{}` is run by who asked you: nothing ran", call.name);
            return Err(invalid(why).next("call it in a turn of its own, without other tools"));
        }
        let found = self
            .spec
            .tools
            .iter()
            .zip(&self.schemas)
            .find(|(tool, _)| tool.name == call.name);
        let Some((tool, schema)) = found.filter(|(tool, _)| is_allowed(self.spec, tool)) else {
            let names: Vec<&str> = self
                .offered
                .iter()
                .filter_map(|tool| tool["function"]["name"].as_str())
                .collect();
            let there_are = if names.is_empty() {
                "there are none".to_owned()
            } else {
                names.join(", ")
            };
            let why = format!("there is no tool `{}`; the tools: {there_are}", cut(&call.name, 64));
            return Err(Problem::new(Code::ToolInvalid, why).field("name"));
        };
        let text = if call.arguments.trim().is_empty() {
            "{}"
        } else {
            &call.arguments
        };
        let arguments = mesh_types::json::parse_value(text.as_bytes())
            .map_err(|problem| invalid(format!("the arguments are not valid JSON: {}", problem.detail)))?;
        let schema = schema.get_or_init(|| Schema::new(&builtins::told(tool).1));
        schema.check(&arguments).map_err(invalid)?;
        Ok((tool, arguments))
    }

    fn work(&self, tool: &ToolSpec, mut arguments: Value, at: Timestamp, children: &mut u32) -> Result<Work, Problem> {
        let after = |seconds: &Value| builtins::seconds(seconds).map(|seconds| at.plus(seconds));
        Ok(match (tool.kind, tool.name.as_str()) {
            (ToolKind::Agent, _) => self.child(tool, arguments, children)?,
            (ToolKind::Builtin, "sleep") => Work::Timer {
                until: after(&arguments["seconds"]).unwrap_or(at),
            },
            (ToolKind::Builtin, "wait_signal") => Work::Signal {
                name: arguments["name"].as_str().unwrap_or_default().to_owned(),
                until: after(&arguments["timeout_seconds"]),
            },
            (ToolKind::Builtin, name @ ("post_message" | "summarize_channel")) => {
                if arguments.get("channel_id").is_none_or(Value::is_null) {
                    arguments["channel_id"] = json!(self.channel);
                }
                parsed::<ChannelId>(&arguments, "channel_id")
                    .map_err(|problem| problem.next(format!("call {name} with the channel_id of a channel")))?;
                Work::Tool {
                    effect: tool.effect(),
                    arguments,
                }
            }
            (ToolKind::Builtin, "remember") => {
                self.may_remember(&arguments)?;
                Work::Tool {
                    effect: tool.effect(),
                    arguments,
                }
            }
            (ToolKind::Builtin, "create_task") => {
                parsed::<AgentName>(&arguments, "agent")?;
                Work::Tool {
                    effect: tool.effect(),
                    arguments,
                }
            }
            _ => Work::Tool {
                effect: tool.effect(),
                arguments,
            },
        })
    }

    /// Whether there is somebody of that scope, and the agent may speak to them.
    fn may_remember(&self, arguments: &Value) -> Result<(), Problem> {
        let refused = |why: &str, next: &str| Err(Problem::new(Code::ToolInvalid, why).field("scope").next(next));
        match arguments["scope"].as_str() {
            Some("session") if self.task.input.session.is_none() => refused(
                "this conversation has no session",
                "leave the scope out: you will find it in every conversation",
            ),
            Some("user") if self.task.user().is_none() => refused(
                "nobody said which user this is",
                "leave the scope out: you will find it in every conversation",
            ),
            Some("tenant") if !is_able(self.spec, SHARES_MEMORIES) => refused(
                "you may not share memories with all agents: `spec.capabilities.can_share_memories` is not true",
                "leave the scope out: it is yours alone then",
            ),
            _ => Ok(()),
        }
    }

    fn child(&self, tool: &ToolSpec, mut payload: Value, children: &mut u32) -> Result<Work, Problem> {
        let limits = &self.spec.limits;
        let over = |name: &str, allowed: u32| {
            let field = format!("spec.limits.{name}");
            Problem::new(Code::LimitReached, format!("{field} of {allowed} is reached")).field(field)
        };
        let depth = limits.depth.unwrap_or(DEPTH_MAX);
        if self.task.depth >= depth {
            return Err(over("depth", depth));
        }
        let fan_out = limits.children.unwrap_or(CHILDREN_MAX);
        if *children >= fan_out {
            return Err(over("children", fan_out));
        }
        let agent = tool.agent.clone().ok_or_else(|| {
            Problem::new(Code::ToolInvalid, format!("the tool `{}` names no agent", tool.name)).field("agent")
        })?;
        *children += 1;
        // With parameters of its own, a `session` is the agent's affair.
        let session = match (&tool.parameters, payload.as_object_mut()) {
            (None, Some(payload)) => payload.remove("session"),
            _ => None,
        };
        let session = session.and_then(|session| Some(session.as_str()?.to_owned()));
        Ok(Work::Child {
            agent,
            payload,
            session,
        })
    }
}

/// Tasks are created by agents that may.
fn is_allowed(spec: &AgentSpec, tool: &ToolSpec) -> bool {
    let creates = tool.kind == ToolKind::Builtin && tool.name == "create_task";
    !creates || is_able(spec, CREATES_TASKS)
}

fn is_able(spec: &AgentSpec, capability: &str) -> bool {
    spec.capabilities.get(capability).copied().unwrap_or(false)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(arguments: &Value, name: &str) -> Result<T, Problem> {
    let invalid = |why: String| Problem::new(Code::ToolInvalid, why).field(name);
    let text = arguments[name]
        .as_str()
        .ok_or_else(|| invalid(format!("{name} is missing")))?;
    text.parse().map_err(|error| invalid(format!("{name}: {error}")))
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
