//! One invocation for the protocols of others: started for a caller and followed to its end. Each protocol folds the
//! same [`Told`] into its own words.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt};
use mesh_api::Caller;
use mesh_api::execution::{Invocation, InvokeRequest, State, Step};
use mesh_api::journal::{StepKind, Usage};
use mesh_api::registry::{AgentList, AgentView};
use mesh_api::{PageQuery, page};
use mesh_types::{AgentName, Code, InvocationId, Problem};
use serde::Deserialize;
use serde_json::Value;

use super::events::Live;
use super::invocations::accept;
use super::problem::Failure;
use super::shares::Share;
use crate::feed::{Cursor, Event};
use crate::state::App;

/// A comment goes out this often, so that proxies and clients see that the line is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Pages of agents that are read for a list: 500 agents each.
const AGENT_PAGES_MAX: usize = 20;

/// An invocation that somebody follows.
pub(super) struct Run {
    pub(super) invocation: Invocation,
    live: Live,
    /// Tool steps whose text is no answer to the caller.
    quiet: HashSet<u32>,
}

/// What happened, as far as other protocols have words for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// More of the text of a step.
    Text {
        step: u32,
        text: String,
    },
    /// The step starts over: its text so far is void.
    Reset {
        step: u32,
    },
    Step(Box<Step>),
    /// It is in that state now, which is no end.
    State(State, Value),
    /// A person is asked.
    Asked(Value),
    Ended(Box<Ending>),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Ending {
    pub(super) state: State,
    #[serde(default)]
    pub(super) output: Option<Value>,
    #[serde(default)]
    pub(super) error: Option<Problem>,
    #[serde(default)]
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) usage: Usage,
}

impl Run {
    /// Accepts, and follows from the beginning. A repeat under the same idempotency key follows the first.
    pub(super) async fn start(
        app: &App,
        caller: &Caller,
        agent: AgentName,
        request: InvokeRequest,
    ) -> Result<Self, Failure> {
        let invocation = accept(app, caller, agent, request, 0).await?;
        Self::of(app, caller, invocation, Cursor::default()).await
    }

    /// Follows one that was started before, from where it is.
    ///
    /// # Errors
    /// `InvocationEnded` where nothing can follow.
    pub(super) async fn follow_on(app: &App, caller: &Caller, invocation: Invocation) -> Result<Self, Failure> {
        let after = Cursor {
            seq: invocation.cursor,
            ..Cursor::default()
        };
        Self::of(app, caller, invocation, after).await
    }

    /// As [`Self::follow_on`] from `after`, with another's place.
    pub(super) async fn follow_with(
        app: &App,
        caller: &Caller,
        invocation: Invocation,
        after: Cursor,
        share: Share,
    ) -> Result<Self, Failure> {
        let live = Live::open(app.clone(), caller.clone(), invocation.id, after, share).await?;
        let ended = || Failure::new(Code::InvocationEnded, format!("{} has ended", invocation.id));
        Ok(Self {
            live: live.ok_or_else(ended)?,
            invocation,
            quiet: HashSet::new(),
        })
    }

    async fn of(app: &App, caller: &Caller, invocation: Invocation, after: Cursor) -> Result<Self, Failure> {
        let share = app.streams.take(&caller.tenant)?;
        Self::follow_with(app, caller, invocation, after, share).await
    }

    /// What happens next, with the cursor after it; `None` after the end, and where the stream breaks off.
    pub(super) async fn next(&mut self) -> Option<(Cursor, Told)> {
        loop {
            let event = self.live.next().await?;
            let cursor = event.cursor.clone();
            if let Some(told) = read(event) {
                return Some((cursor, told));
            }
        }
    }

    /// As [`Self::next`] without the text that tools say on their way.
    pub(super) async fn next_answer(&mut self) -> Option<Told> {
        loop {
            let (_, told) = self.next().await?;
            match &told {
                Told::Text { step, .. } | Told::Reset { step } if self.quiet.contains(step) => {}
                Told::Step(step) if step.kind == StepKind::Tool => {
                    self.quiet.insert(step.number);
                    return Some(told);
                }
                _ => return Some(told),
            }
        }
    }
}

/// `None`: no other protocol has words for it.
fn read(event: Event) -> Option<Told> {
    let Event { name, data, .. } = event;
    let step = || data["step"].as_u64().and_then(|step| u32::try_from(step).ok());
    Some(match name {
        "token" => Told::Text {
            step: step()?,
            text: data["text"].as_str()?.to_owned(),
        },
        "reset" => Told::Reset { step: step()? },
        "step.recorded" => Told::Step(Box::new(Step::deserialize(&data).ok()?)),
        "approval.requested" => Told::Asked(data),
        name if name.starts_with("invocation.") => {
            let state = State::deserialize(data.get("state")?).ok()?;
            if state.is_ended() {
                Told::Ended(Box::new(Ending::deserialize(&data).ok()?))
            } else {
                Told::State(state, data)
            }
        }
        _ => return None,
    })
}

impl Ending {
    /// The ending of one that was read after it.
    pub(super) fn of(invocation: &Invocation) -> Option<Self> {
        invocation.state.is_ended().then(|| Self {
            state: invocation.state,
            output: invocation.output.clone(),
            error: invocation.error.clone(),
            reason: invocation.reason.clone(),
            usage: invocation.usage,
        })
    }

    /// The output, or why there is none.
    pub(super) fn outcome(self, id: InvocationId) -> Result<Value, Problem> {
        self.outcome_of(&id.to_string())
    }

    /// As [`Self::outcome`], for an id in text.
    pub(super) fn outcome_of(self, id: &str) -> Result<Value, Problem> {
        if self.state == State::Completed {
            return Ok(self.output.unwrap_or_default());
        }
        let code = if self.state == State::Cancelled {
            Code::Cancelled
        } else {
            Code::InvocationFailed
        };
        let problem = self.error.unwrap_or_else(|| {
            let why = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Problem::new(code, format!("{id} ended {}{why}", self.state.as_str()))
        });
        Err(match problem.next {
            Some(_) => problem,
            None => problem.next(format!("GET /api/v1/invocations/{id} shows every step")),
        })
    }
}

/// What an agent says, as text: `{"text":…}` of an `llm` agent, else its output as JSON.
pub(super) fn text_of(output: &Value) -> String {
    match output {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(object) => match object.get("text") {
            Some(Value::String(text)) => text.clone(),
            _ => output.to_string(),
        },
        other => other.to_string(),
    }
}

/// Why a stream broke off before its end. The invocation goes on.
pub(super) fn cut_off(id: InvocationId) -> Problem {
    Problem::new(Code::Unavailable, format!("the stream of {id} broke off; it goes on"))
        .next(format!("GET /api/v1/invocations/{id} shows how it ends"))
}

/// Server-sent events, kept alive and out of buffers.
pub(super) fn sse(events: impl Stream<Item = SseEvent> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    let events = events.map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Agents that can be invoked, by name; at most 10,000.
pub(super) async fn published(app: &App, caller: &Caller) -> Result<Vec<AgentView>, Failure> {
    let mut query = PageQuery {
        limit: Some(page::LIMIT_MAX),
        after: None,
    };
    let mut agents = Vec::new();
    for _ in 0..AGENT_PAGES_MAX {
        let page = app.call::<AgentList>(caller, &query).await?;
        agents.extend(page.items.into_iter().filter(|agent| agent.status.published.is_some()));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    Ok(agents)
}

/// What an agent is for, in a line: its label `description`, else the first line of its instructions.
pub(super) fn description(agent: &AgentView) -> String {
    const CHARS_MAX: usize = 300;
    let label = agent.metadata.labels.get("description").map(String::as_str);
    let line = label.or_else(|| agent.spec.instructions.lines().find(|line| !line.trim().is_empty()));
    match line {
        Some(line) => line.trim().chars().take(CHARS_MAX).collect(),
        None => format!("The agent {}", agent.metadata.name),
    }
}

#[cfg(test)]
mod tests {
    use mesh_types::Id;
    use serde_json::json;

    use super::*;

    fn told(name: &'static str, data: Value) -> Option<Told> {
        read(Event {
            cursor: Cursor::default(),
            name,
            data,
        })
    }

    #[test]
    fn events_are_read_as_they_are_told() {
        let text = told("token", json!({"text": "hi", "step": 2, "attempt": 1}));
        assert_eq!(
            text,
            Some(Told::Text {
                step: 2,
                text: "hi".into()
            })
        );
        let failed = json!({"state": "failed", "error": Problem::new(Code::ModelFailed, "no"), "usage": {}});
        let Some(Told::Ended(ending)) = told("invocation.failed", failed) else {
            panic!("an end");
        };
        assert!(
            ending
                .outcome(InvocationId::from_u128(1))
                .unwrap_err()
                .is(Code::ModelFailed)
        );
        assert!(matches!(
            told("invocation.waiting", json!({"state": "waiting"})),
            Some(Told::State(State::Waiting, _))
        ));
        assert_eq!(told("invocation.paused", json!({"paused": true})), None);
    }

    #[test]
    fn an_output_is_its_text_or_its_json() {
        assert_eq!(text_of(&json!({"text": "hi", "tool_calls": []})), "hi");
        assert_eq!(text_of(&json!({"value": [1]})), r#"{"value":[1]}"#);
        assert_eq!(text_of(&Value::Null), "");
    }
}
