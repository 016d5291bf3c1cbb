//! The JSON-RPC methods of A2A, each a few lines over the same calls that the HTTP API makes.

use std::collections::VecDeque;
use std::time::Duration;

use a2a::event::StreamResponse;
use a2a::jsonrpc::methods;
use a2a::types::{
    CancelTaskRequest, GetTaskRequest, ListTasksRequest, ListTasksResponse, Message, SendMessageRequest,
    SendMessageResponse, SubscribeToTaskRequest, Task,
};
use a2a::{A2AError, JsonRpcId, JsonRpcResponse};
use axum::response::Response;
use axum::response::sse::Event as SseEvent;
use futures::Stream;
use mesh_api::execution::{
    CancelRequest, Invocation, InvocationCancel, InvocationCounts, InvocationFilter, InvocationGet, InvocationList,
    InvocationRequest, ListRequest,
};
use mesh_api::{Caller, PageQuery};
use mesh_types::{AgentName, Code, InvocationId, Problem, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fold::Fold;
use super::task::{state_filter, task};
use super::{message, push, said};
use crate::http::followed::{Run, cut_off, sse};
use crate::http::problem::Failure;
use crate::state::App;

/// How long a message waits for its answer.
const WAIT: Duration = Duration::from_secs(600);
const PAGE_DEFAULT: i32 = 50;
const PAGE_MAX: i32 = 100;

/// Why a call has no result.
#[derive(Debug)]
pub(super) struct Refused(pub(super) A2AError);

impl Refused {
    pub(super) fn invalid(why: &str) -> Self {
        Self(A2AError::invalid_params(why))
    }

    pub(super) fn unsupported(why: &str) -> Self {
        Self(A2AError::unsupported_operation(why))
    }
}

impl From<Failure> for Refused {
    fn from(Failure(problem): Failure) -> Self {
        problem.into()
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let next = problem
            .next
            .as_ref()
            .map(|next| format!(" ({next})"))
            .unwrap_or_default();
        let words = format!("{}{next}", problem.detail);
        Self(if problem.is(Code::InvocationNotFound) {
            A2AError::new(a2a::errors::error_code::TASK_NOT_FOUND, words)
        } else if problem.is(Code::InvocationEnded) {
            A2AError::new(a2a::errors::error_code::TASK_NOT_CANCELABLE, words)
        } else if (400..500).contains(&problem.status) && !problem.is_transient() {
            A2AError::invalid_params(words)
        } else {
            A2AError::internal(words)
        })
    }
}

/// The call's id, and its method with its parameters.
pub(super) fn read(body: Value, version: &str) -> (JsonRpcId, Result<(String, Value), Refused>) {
    let id = body.get("id").cloned().unwrap_or_default();
    let id = serde_json::from_value(id).unwrap_or(JsonRpcId::Null);
    let is_ours = version.split('.').next() == a2a::VERSION.split('.').next();
    if !is_ours {
        let shown: String = version.chars().take(20).collect();
        return (id, Err(Refused(A2AError::version_not_supported(&shown))));
    }
    if body["jsonrpc"] != "2.0" {
        return (id, Err(Refused(A2AError::invalid_request("jsonrpc must be \"2.0\""))));
    }
    let Some(method) = body["method"].as_str() else {
        return (id, Err(Refused(A2AError::invalid_request("method must be a string"))));
    };
    let params = body.get("params").cloned().unwrap_or_default();
    (id, Ok((method.to_owned(), params)))
}

fn parsed<T: DeserializeOwned>(params: Value) -> Result<T, Refused> {
    let params = if params.is_null() {
        Value::Object(serde_json::Map::new())
    } else {
        params
    };
    serde_json::from_value(params).map_err(|error| Refused::invalid(&format!("params: {error}")))
}

/// One call.
pub(super) struct Asked {
    pub(super) app: App,
    pub(super) caller: Caller,
    pub(super) agent: AgentName,
    pub(super) id: JsonRpcId,
}

impl Asked {
    pub(super) async fn answer(self, method: &str, params: Value) -> Result<Response, Refused> {
        match method {
            methods::SEND_MESSAGE => {
                let task = self.send(parsed(params)?).await?;
                self.done(&SendMessageResponse::Task(task))
            }
            methods::SEND_STREAMING_MESSAGE => self.stream(parsed(params)?).await,
            methods::SUBSCRIBE_TO_TASK => self.subscribe(&parsed(params)?).await,
            methods::GET_TASK => {
                let GetTaskRequest { id, history_length, .. } = parsed(params)?;
                let mut task = task(&self.invocation(&id).await?, None);
                task.history = task.history.filter(|_| history_length != Some(0));
                self.done(&task)
            }
            methods::LIST_TASKS => {
                let tasks = self.list(parsed(params)?).await?;
                self.done(&tasks)
            }
            methods::CANCEL_TASK => {
                let CancelTaskRequest { id, .. } = parsed(params)?;
                let task = self.cancel(&id).await?;
                self.done(&task)
            }
            methods::CREATE_PUSH_CONFIG => {
                let config = push::create(&self, parsed(params)?).await?;
                self.done(&config)
            }
            methods::GET_PUSH_CONFIG => {
                let config = push::get(&self, &parsed(params)?).await?;
                self.done(&config)
            }
            methods::LIST_PUSH_CONFIGS => {
                let configs = push::list(&self, &parsed(params)?).await?;
                self.done(&configs)
            }
            methods::DELETE_PUSH_CONFIG => {
                push::delete(&self, &parsed(params)?).await?;
                self.done(&Value::Object(serde_json::Map::new()))
            }
            methods::GET_EXTENDED_AGENT_CARD => Err(Refused(A2AError::extended_card_not_configured())),
            other => {
                let shown: String = other.chars().take(60).collect();
                let words = format!("there is no method `{shown}` in A2A {}", a2a::VERSION);
                Err(Refused(A2AError::new(a2a::errors::error_code::METHOD_NOT_FOUND, words)))
            }
        }
    }

    fn done(&self, result: &impl Serialize) -> Result<Response, Refused> {
        let result = serde_json::to_value(result).map_err(|error| Refused(A2AError::internal(error.to_string())))?;
        Ok(said(&JsonRpcResponse::success(self.id.clone(), result)))
    }

    /// The invocation of that id, if it is one of this agent's.
    pub(super) async fn invocation(&self, id: &str) -> Result<Invocation, Refused> {
        let shown: String = id.chars().take(60).collect();
        let not_found = || Refused(A2AError::task_not_found(&shown));
        let id: InvocationId = id.parse().map_err(|_| not_found())?;
        let invocation = self
            .app
            .call::<InvocationGet>(&self.caller, &InvocationRequest { id })
            .await?;
        if invocation.agent == self.agent {
            Ok(invocation)
        } else {
            Err(not_found())
        }
    }

    async fn start(&self, request: &SendMessageRequest) -> Result<Run, Refused> {
        let invoke = message::read(&request.message)?;
        let config = request.configuration.as_ref();
        let config = config.and_then(|config| config.task_push_notification_config.clone());
        // Before it is accepted: what cannot be told is not begun.
        if let Some(config) = &config {
            push::check(&self.app, &self.caller.tenant, config).await?;
        }
        let run = Run::start(&self.app, &self.caller, self.agent.clone(), invoke).await?;
        if let Some(config) = config {
            push::begin(self, &run.invocation, config).await?;
        }
        Ok(run)
    }

    /// Waits for the end, or until a person is asked.
    async fn send(&self, request: SendMessageRequest) -> Result<Task, Refused> {
        let config = request.configuration.as_ref();
        let waits = config.and_then(|config| config.return_immediately) != Some(true);
        let shows = config.and_then(|config| config.history_length) != Some(0);
        let mut run = self.start(&request).await?;
        let sent: Option<&Message> = shows.then_some(&request.message);
        if !waits {
            return Ok(task(&run.invocation, sent));
        }
        let mut fold = Fold::new(&run.invocation);
        let ended = async {
            while let Some(told) = run.next_answer().await {
                fold.take(told);
                if fold.is_over() || fold.asks() {
                    break;
                }
            }
        };
        // After that long the task is told as it is: it goes on, and the client asks again.
        let _ = tokio::time::timeout(WAIT, ended).await;
        let invocation = self.invocation(&run.invocation.id.to_string()).await?;
        Ok(task(&invocation, sent))
    }

    async fn stream(self, request: SendMessageRequest) -> Result<Response, Refused> {
        let run = self.start(&request).await?;
        let first = task(&run.invocation, Some(&request.message));
        Ok(self.follow(run, first))
    }

    async fn subscribe(self, request: &SubscribeToTaskRequest) -> Result<Response, Refused> {
        let invocation = self.invocation(&request.id).await?;
        if invocation.state.is_ended() {
            return Err(Refused::unsupported("the task has ended: GetTask has its answer"));
        }
        let first = task(&invocation, None);
        let run = Run::follow_on(&self.app, &self.caller, invocation).await?;
        Ok(self.follow(run, first))
    }

    fn follow(self, run: Run, first: Task) -> Response {
        let fold = Fold::new(&run.invocation);
        let begun = VecDeque::from([StreamResponse::Task(first)]);
        sse(events(self.id, run, fold, begun))
    }

    async fn list(&self, request: ListTasksRequest) -> Result<ListTasksResponse, Refused> {
        let size = request.page_size.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&size) {
            return Err(Refused::invalid(&format!(
                "pageSize must be a whole number from 1 to {PAGE_MAX}"
            )));
        }
        let filter = InvocationFilter {
            agent: Some(self.agent.clone()),
            session: request.context_id.filter(|context| !context.is_empty()),
            state: request.status.as_ref().and_then(state_filter),
            since: request
                .status_timestamp_after
                .map(|at| Timestamp::from_micros(at.timestamp_micros())),
            ..InvocationFilter::default()
        };
        let counts = self.app.call::<InvocationCounts>(&self.caller, &filter).await?;
        let page = PageQuery {
            limit: u32::try_from(size).ok(),
            after: request.page_token.filter(|token| !token.is_empty()),
        };
        let page = self
            .app
            .call::<InvocationList>(&self.caller, &ListRequest { filter, page })
            .await?;
        let tasks = page.items.iter().map(|invocation| {
            let mut task = task(invocation, None);
            task.artifacts = task.artifacts.filter(|_| request.include_artifacts == Some(true));
            task
        });
        Ok(ListTasksResponse {
            tasks: tasks.collect(),
            next_page_token: page.next.unwrap_or_default(),
            page_size: size,
            total_size: i32::try_from(counts.all).unwrap_or(i32::MAX),
        })
    }

    async fn cancel(&self, id: &str) -> Result<Task, Refused> {
        let invocation = self.invocation(id).await?;
        let shown = invocation.id.to_string();
        if invocation.state.is_ended() {
            return Err(Refused(A2AError::task_not_cancelable(&shown)));
        }
        let request = CancelRequest {
            id: invocation.id,
            reason: Some("cancelled by its A2A client".to_owned()),
        };
        let cancelled = self.app.call::<InvocationCancel>(&self.caller, &request).await?;
        Ok(task(&cancelled, None))
    }
}

/// Responses of the call; the last one ends the stream.
fn events(id: JsonRpcId, run: Run, fold: Fold, begun: VecDeque<StreamResponse>) -> impl Stream<Item = SseEvent> {
    futures::stream::unfold(
        (id, run, fold, begun, false),
        |(id, mut run, mut fold, mut waiting, broken)| async move {
            loop {
                if let Some(event) = waiting.pop_front() {
                    let result = serde_json::to_value(&event).unwrap_or_default();
                    let event = data(&JsonRpcResponse::success(id.clone(), result));
                    return Some((event, (id, run, fold, waiting, broken)));
                }
                if broken || fold.is_over() {
                    return None;
                }
                match run.next_answer().await {
                    Some(told) => waiting.extend(fold.take(told)),
                    None => {
                        let Refused(error) = cut_off(run.invocation.id).into();
                        let event = data(&JsonRpcResponse::error(id.clone(), error.to_jsonrpc_error()));
                        return Some((event, (id, run, fold, waiting, true)));
                    }
                }
            }
        },
    )
}

fn data(response: &JsonRpcResponse) -> SseEvent {
    let text = serde_json::to_string(response).unwrap_or_default();
    SseEvent::default().data(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(body: Value, version: &str) -> Option<i32> {
        read(body, version).1.err().map(|Refused(error)| error.code)
    }

    #[test]
    fn a_call_is_read_or_refused_with_its_id() {
        let good = json!({"jsonrpc": "2.0", "id": 7, "method": "GetTask", "params": {"id": "x"}});
        let (id, read_good) = read(good.clone(), "1.0");
        assert_eq!(json!(id), 7);
        let (method, params) = read_good.ok().unwrap();
        assert_eq!((method.as_str(), params), ("GetTask", json!({"id": "x"})));
        assert_eq!(code(good, "0.3"), Some(-32009));
        assert_eq!(code(json!({"id": "a", "method": "GetTask"}), "1.0"), Some(-32600));
        assert_eq!(code(json!({"jsonrpc": "2.0", "id": "a"}), "1.0"), Some(-32600));
    }

    #[test]
    fn problems_have_the_codes_of_the_protocol() {
        let code = |code| {
            let Refused(error) = Problem::new(code, "x").into();
            error.code
        };
        assert_eq!(code(Code::InvocationNotFound), -32001);
        assert_eq!(code(Code::InvocationEnded), -32002);
        assert_eq!(code(Code::InvalidRequest), -32602);
        assert_eq!(code(Code::Unavailable), -32603);
    }
}
