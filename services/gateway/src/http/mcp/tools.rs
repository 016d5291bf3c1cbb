//! Agents as tools: their schema, and a call of one.

use std::sync::Arc;

use mesh_api::execution::{CancelRequest, InvocationCancel, InvokeRequest};
use mesh_api::registry::AgentView;
use mesh_types::agent::Runtime;
use mesh_types::{AgentName, Code, Problem};
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ContentBlock, JsonObject, ProgressNotificationParam, ProtocolVersion, Tool};
use rmcp::service::RequestContext;
use serde_json::{Map, Value, json};

use super::server::Server;
use crate::http::followed::{Run, Told, cut_off, description, text_of};
use crate::http::invocations::check_key;
use crate::http::problem::Failure;

/// Said in `_meta` by who may have to call again.
const IDEMPOTENCY_KEY: &str = "mesh/idempotency-key";

/// An agent as a tool of its name.
pub(super) fn tool(agent: &AgentView) -> Tool {
    let text = json!({"type": "string", "description": "What you say to the agent"});
    let session = json!({"type": "string", "description": "Names a conversation: calls of one run one at a time"});
    let payload = json!({"type": "object", "description": "The whole payload, instead of a text"});
    let schema = if agent.spec.runtime == Runtime::Llm {
        json!({"type": "object", "properties": {"text": text, "session": session}, "required": ["text"],
            "additionalProperties": false})
    } else {
        json!({"type": "object", "properties": {"text": text, "payload": payload, "session": session},
            "additionalProperties": false})
    };
    let schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    Tool::new(agent.metadata.name.to_string(), description(agent), Arc::new(schema))
}

/// Invokes the agent and waits for its end, telling of each step to who asked for progress.
pub(super) async fn call(
    server: &Server,
    agent: AgentName,
    arguments: Map<String, Value>,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, Failure> {
    let Server { app, caller } = server;
    let mut request = request(arguments)?;
    // Our own agents say which step calls: a repeat of it finds the first.
    request.idempotency_key = match context.meta.get(IDEMPOTENCY_KEY) {
        Some(Value::String(key)) => {
            check_key(key)?;
            Some(key.clone())
        }
        _ => None,
    };
    let mut run = Run::start(app, caller, agent, request).await?;
    let id = run.invocation.id;
    let mut progress = Progress::of(context);
    loop {
        let told = tokio::select! {
            told = run.next_answer() => told,
            () = context.ct.cancelled() => break,
        };
        match told {
            Some(Told::Ended(ending)) => return Ok(result(ending.outcome(id)?)),
            Some(told) => progress.tell(context, &told).await,
            None => return Err(Failure(cut_off(id))),
        }
    }
    if !app.shutdown.is_cancelled() && closing_cancels(context) {
        let reason = Some("the caller of the tool went away".to_owned());
        app.call::<InvocationCancel>(caller, &CancelRequest { id, reason })
            .await?;
    }
    Err(Failure(Problem::new(
        Code::Cancelled,
        format!("the call of {id} was cancelled"),
    )))
}

/// Since that version a client that closes the stream of a call takes it back; before, it only lost its line.
fn closing_cancels(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

fn request(mut arguments: Map<String, Value>) -> Result<InvokeRequest, Failure> {
    let session = match arguments.remove("session") {
        None | Some(Value::Null) => None,
        Some(Value::String(session)) => Some(session),
        Some(_) => return Err(Failure::invalid("session", "session must be a string")),
    };
    let payload = match (arguments.remove("payload"), arguments.remove("text")) {
        (None | Some(Value::Null), Some(Value::String(text))) => json!({"text": text}),
        (Some(payload @ Value::Object(_)), None) => payload,
        (Some(_), Some(_)) => return Err(Failure::invalid("payload", "text or payload, not both")),
        _ => {
            return Err(Failure::invalid("text", "text must be a string").next("call it again with a text"));
        }
    };
    if let Some(unknown) = arguments.keys().next() {
        let unknown: String = unknown.chars().take(64).collect();
        let words = format!("there is no argument `{unknown}`; there are text, payload and session");
        return Err(Failure::invalid(&unknown, words));
    }
    Ok(InvokeRequest {
        payload,
        entrypoint: Some("mcp".into()),
        session,
        ..InvokeRequest::default()
    })
}

fn result(output: Value) -> CallToolResult {
    let text = text_of(&output);
    let is_text_only = output
        .as_object()
        .is_some_and(|object| object.len() == 1 && object.contains_key("text"));
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    if !is_text_only && output.is_object() {
        result.structured_content = Some(output);
    }
    result
}

/// Steps told so far.
struct Progress {
    token: Option<rmcp::model::ProgressToken>,
    steps: u32,
}

impl Progress {
    fn of(context: &RequestContext<RoleServer>) -> Self {
        Self {
            token: context.meta.get_progress_token(),
            steps: 0,
        }
    }

    async fn tell(&mut self, context: &RequestContext<RoleServer>, told: &Told) {
        let message = match told {
            Told::Step(step) => format!("step {}: {}", step.number, step.name),
            Told::Asked(_) => "waits for a person's approval".to_owned(),
            _ => return,
        };
        let Some(token) = self.token.clone() else {
            return;
        };
        self.steps += 1;
        let param = ProgressNotificationParam::new(token, self.steps.into()).with_message(message);
        // A client that has gone away is noticed by the token of its request.
        let _ = context.peer.notify_progress(param).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: Value) -> Result<InvokeRequest, Failure> {
        let Value::Object(arguments) = arguments else {
            unreachable!("an object");
        };
        request(arguments)
    }

    #[test]
    fn a_call_is_a_text_or_a_payload() {
        let said = read(json!({"text": "hi", "session": "s"})).unwrap();
        assert_eq!(
            (said.payload, said.session.as_deref()),
            (json!({"text": "hi"}), Some("s"))
        );
        assert_eq!(read(json!({"payload": {"a": 1}})).unwrap().payload, json!({"a": 1}));
        for (wrong, field) in [
            (json!({}), "text"),
            (json!({"text": 7}), "text"),
            (json!({"text": "a", "payload": {}}), "payload"),
            (json!({"text": "a", "more": 1}), "more"),
            (json!({"text": "a", "session": 1}), "session"),
        ] {
            assert_eq!(read(wrong).unwrap_err().0.field.as_deref(), Some(field));
        }
    }

    #[test]
    fn a_result_is_text_and_where_there_is_more_its_structure() {
        assert_eq!(result(json!({"text": "hi"})).structured_content, None);
        let more = result(json!({"value": [1]}));
        assert_eq!(more.structured_content, Some(json!({"value": [1]})));
        assert_eq!(more.content[0].as_text().unwrap().text, r#"{"value":[1]}"#);
    }
}
