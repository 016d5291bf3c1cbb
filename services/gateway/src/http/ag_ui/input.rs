//! What an AG-UI client sends, and what an agent or a node is asked by it.

use mesh_api::execution::InvokeRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::http::problem::Failure;

/// Longest `threadId` and `runId`, in bytes.
const ID_BYTES_MAX: usize = 100;

/// `RunAgentInput` of AG-UI 1.0. Fields that it may get later are ignored.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunAgentInput {
    /// The conversation: invocations of one thread run one at a time.
    #[schema(min_length = 1, max_length = 100)]
    pub(super) thread_id: String,
    #[schema(min_length = 1, max_length = 100)]
    pub(super) run_id: String,
    pub(super) messages: Vec<Value>,
    /// Tools that the client runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tools: Option<Vec<Tool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context: Option<Vec<Context>>,
    /// Kept with the invocation; agents do not read it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    state: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    forwarded_props: Value,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
    /// JSON Schema of its arguments.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    parameters: Value,
}

#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
struct Context {
    #[serde(default)]
    description: String,
    value: String,
}

impl RunAgentInput {
    /// As an invocation of an agent.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(super) fn read(&self) -> Result<InvokeRequest, Failure> {
        self.check_ids()?;
        let mut messages = Vec::with_capacity(self.messages.len() + 1);
        let context = self.context.iter().flatten();
        let context: Vec<String> = context
            .map(|one| format!("{}: {}", one.description, one.value))
            .collect();
        if !context.is_empty() {
            messages.push(json!({"role": "system", "content": context.join("\n")}));
        }
        for (at, message) in self.messages.iter().enumerate() {
            messages.extend(spoken(at, message)?);
        }
        if messages.is_empty() {
            return Err(Failure::invalid("messages", "messages must hold at least one message"));
        }
        let mut payload = json!({"messages": messages});
        let tools = self.tools.iter().flatten().map(|tool| {
            let parameters = if tool.parameters.is_object() {
                tool.parameters.clone()
            } else {
                json!({"type": "object"})
            };
            json!({"type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": parameters}})
        });
        let tools: Vec<Value> = tools.collect();
        if !tools.is_empty() {
            payload["client_tools"] = Value::Array(tools);
        }
        let mut metadata = Map::new();
        for (name, value) in [("state", &self.state), ("forwarded_props", &self.forwarded_props)] {
            if !value.is_null() {
                metadata.insert(name.to_owned(), value.clone());
            }
        }
        Ok(InvokeRequest {
            payload,
            entrypoint: Some("ag-ui".into()),
            session: Some(self.thread_id.clone()),
            idempotency_key: Some(format!("ag-ui/{}/{}", self.thread_id, self.run_id)),
            metadata,
            ..InvokeRequest::default()
        })
    }

    /// As the body of a node's `chat`, which knows text only.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub(super) fn for_node(&self) -> Result<Value, Failure> {
        self.check_ids()?;
        let mut messages = Vec::with_capacity(self.messages.len());
        for (at, message) in self.messages.iter().enumerate() {
            let said = spoken(at, message)?.filter(|message| message["role"] != "tool");
            messages.extend(said.map(|message| {
                let content: mesh_types::content::Content =
                    serde_json::from_value(message["content"].clone()).unwrap_or(String::new().into());
                json!({"role": message["role"], "content": content.plain_text()})
            }));
        }
        Ok(json!({"messages": messages}))
    }

    fn check_ids(&self) -> Result<(), Failure> {
        for (name, id) in [("threadId", &self.thread_id), ("runId", &self.run_id)] {
            let is_id = (1..=ID_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control);
            if !is_id {
                let words = format!("{name} must have 1 to {ID_BYTES_MAX} bytes and no control characters");
                return Err(Failure::invalid(name, words));
            }
        }
        Ok(())
    }
}

/// A message as a model is told of it; `None` for what is meant for eyes only.
fn spoken(at: usize, message: &Value) -> Result<Option<Value>, Failure> {
    let role = match message["role"].as_str() {
        Some("developer" | "system") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool") => "tool",
        Some("activity" | "reasoning") => return Ok(None),
        _ => {
            let field = format!("messages[{at}].role");
            let words = format!("{field} must be developer, system, user, assistant, tool, activity or reasoning");
            return Err(Failure::invalid(&field, words));
        }
    };
    let content = match &message["content"] {
        Value::Null => json!(""),
        content @ (Value::String(_) | Value::Array(_)) => content.clone(),
        _ => {
            let field = format!("messages[{at}].content");
            return Err(Failure::invalid(
                &field,
                format!("{field} must be a text or a list of parts"),
            ));
        }
    };
    let mut said = json!({"role": role, "content": content});
    if let Some(calls) = message["toolCalls"].as_array().filter(|calls| !calls.is_empty()) {
        said["tool_calls"] = json!(calls);
    }
    if role == "tool" {
        let field = format!("messages[{at}].toolCallId");
        let Some(id) = message["toolCallId"].as_str().filter(|id| !id.is_empty()) else {
            return Err(Failure::invalid(
                &field,
                format!("{field} must name the call that it answers"),
            ));
        };
        said["tool_call_id"] = json!(id);
    }
    Ok(Some(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(more: Value) -> RunAgentInput {
        let mut body = json!({"threadId": "t", "runId": "r", "protocolVersion": "1.0",
            "messages": [{"id": "1", "role": "user", "content": "hi"}]});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn a_run_becomes_an_invocation() {
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let request = input(
            json!({"messages": [{"id": "1", "role": "developer", "content": "brief"},
            {"id": "2", "role": "reasoning", "content": "hm"},
            {"id": "3", "role": "assistant", "toolCalls": [call]},
            {"id": "4", "role": "tool", "content": "7", "toolCallId": "c"}],
            "tools": [{"name": "f", "description": "d"}], "context": [{"description": "page", "value": "home"}]}),
        )
        .read()
        .unwrap();
        assert_eq!(
            request.payload,
            json!({"messages": [{"role": "system", "content": "page: home"}, {"role": "system", "content": "brief"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "7", "tool_call_id": "c"}],
                "client_tools": [{"type": "function",
                    "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]})
        );
        assert_eq!(request.session.as_deref(), Some("t"));
        assert_eq!(request.idempotency_key.as_deref(), Some("ag-ui/t/r"));
    }

    #[test]
    fn a_node_is_told_text_only() {
        let body = input(
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "tool", "content": "7", "toolCallId": "c"}]}),
        )
        .for_node()
        .unwrap();
        assert_eq!(body, json!({"messages": [{"role": "user", "content": "hi"}]}));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, field) in [
            (json!({"threadId": ""}), "threadId"),
            (json!({"runId": "x".repeat(101)}), "runId"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"role": "king"}]}), "messages[0].role"),
            (
                json!({"messages": [{"role": "user", "content": 7}]}),
                "messages[0].content",
            ),
            (
                json!({"messages": [{"role": "tool", "content": "x"}]}),
                "messages[0].toolCallId",
            ),
        ] {
            let failure = input(more).read().unwrap_err();
            assert_eq!(failure.0.field.as_deref(), Some(field));
        }
    }
}
