//! Tools of Model Context Protocol servers. A server is started, or connected to, at its first call and kept.

mod process;
mod servers;

use mesh_trace::Place;
use mesh_types::Problem;
use mesh_types::tool::{ToolCall, ToolReply, ToolSpec};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, RequestMetaObject, ServerResult};
use rmcp::service::{PeerRequestOptions, RequestHandle, RoleClient, ServiceError};
use serde_json::{Map, Value, json};
use tokio_util::task::TaskTracker;

use crate::failure;
use crate::web::Web;
pub(crate) use servers::Servers;

/// Where a call says its key; servers that know it can tell a repeat.
const META_IDEMPOTENCY_KEY: &str = "mesh/idempotency-key";

/// `{"content": […], "structuredContent": …}` as the server says it.
pub(crate) async fn call(
    servers: &Servers,
    web: &Web,
    tool: &ToolSpec,
    call: &ToolCall,
    bytes_max: usize,
) -> Result<ToolReply, Problem> {
    let declared = tool
        .mcp
        .as_ref()
        .ok_or_else(|| failure::permanent("the tool names no server"))?;
    let arguments = match &call.arguments {
        Value::Object(arguments) => arguments.clone(),
        Value::Null => Map::new(),
        _ => return Err(failure::permanent("the arguments must be an object")),
    };
    let server = servers.of(declared, web).await?;
    let name = declared.tool.as_ref().unwrap_or(&tool.name).clone();
    let params = CallToolRequestParams::new(name).with_arguments(arguments);
    let mut meta = RequestMetaObject::new();
    meta.insert(META_IDEMPOTENCY_KEY.to_owned(), call.idempotency_key.as_str().into());
    // As the protocol's conventions have it, whatever it travels over.
    for (name, value) in mesh_trace::current_place().iter().flat_map(Place::headers) {
        meta.insert(name.to_owned(), value.into());
    }
    let handle = server
        .peer()
        .send_cancellable_request(
            ClientRequest::CallToolRequest(CallToolRequest::new(params)),
            PeerRequestOptions::no_options().with_meta(meta),
        )
        .await
        .map_err(|error| server.problem(&error))?;
    let answer = Pending {
        handle: Some(handle),
        tasks: servers.tasks(),
    }
    .answer()
    .await
    .map_err(|error| server.problem(&error))?;
    server.touch();
    let output = output(answer)?;
    if output.to_string().len() > bytes_max {
        return Err(failure::too_long(bytes_max));
    }
    Ok(ToolReply::of(output))
}

/// A request on its way. Dropped before its answer, it is cancelled at the server.
struct Pending<'a> {
    handle: Option<RequestHandle<RoleClient>>,
    tasks: &'a TaskTracker,
}

impl Pending<'_> {
    async fn answer(mut self) -> Result<ServerResult, ServiceError> {
        let Some(handle) = self.handle.as_mut() else {
            return Err(ServiceError::TransportClosed);
        };
        let answer = (&mut handle.rx).await;
        self.handle = None;
        answer.unwrap_or(Err(ServiceError::TransportClosed))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let (Some(handle), Ok(runtime)) = (self.handle.take(), tokio::runtime::Handle::try_current()) {
            let cancel = async move {
                // A server that is gone needs no telling.
                let _ = handle.cancel(Some("nobody waits for it any more".to_owned())).await;
            };
            self.tasks.spawn_on(cancel, &runtime);
        }
    }
}

fn output(answer: ServerResult) -> Result<Value, Problem> {
    // A content block of a type that the SDK does not know makes the whole result a custom one: kept as it is.
    let answer = match answer {
        ServerResult::CallToolResult(result) => serde_json::to_value(result),
        ServerResult::CustomResult(result) => Ok(result.0),
        ServerResult::InputRequiredResult(_) => {
            return Err(failure::permanent(
                "the server wants more input, which an agent cannot give",
            ));
        }
        other => serde_json::to_value(other),
    };
    let Ok(Value::Object(mut answer)) = answer else {
        return Err(failure::permanent("the server's answer is no result of a tool"));
    };
    let Some(content @ Value::Array(_)) = answer.remove("content") else {
        return Err(failure::permanent("the server's answer is no result of a tool"));
    };
    if answer.get("isError") == Some(&Value::Bool(true)) {
        return Err(failure::permanent(failure::quoted(&text(&content))));
    }
    let mut output = json!({"content": content});
    if let Some(structured) = answer.remove("structuredContent") {
        output["structuredContent"] = structured;
    }
    Ok(output)
}

/// Text blocks, one below the other; without any, the content as it is.
fn text(content: &Value) -> String {
    let blocks = content.as_array().into_iter().flatten();
    let lines: Vec<_> = blocks.filter_map(|block| block["text"].as_str()).collect();
    if lines.is_empty() {
        return content.to_string();
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests;
