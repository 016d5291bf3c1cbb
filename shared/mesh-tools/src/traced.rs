//! The span of a call that leaves the mesh: whom it asks, by host or by name, and never with what.

use mesh_trace::{Kind, Span};
use mesh_types::tool::{Target, ToolCall, ToolKind};
use url::Url;

/// Below the step that calls.
pub(crate) fn call(call: &ToolCall) -> Span {
    let mut span = Span::child(Kind::Client, || name(&call.target));
    if !span.is_recording() {
        return span;
    }
    let url = match &call.target {
        Target::Tool(tool) => {
            span.set("gen_ai.tool.name", tool.name.as_str());
            if tool.kind == ToolKind::Mcp {
                span.set("mcp.method.name", "tools/call");
            }
            tool.url.as_deref()
        }
        Target::Http(agent) => {
            span.set("http.request.method", "POST");
            Some(agent.url.as_str())
        }
        Target::Script(_) | Target::Cli(_) => None,
    };
    // The rest of the URL may hold a secret.
    if let Some(host) = url
        .and_then(|url| Url::parse(url).ok())
        .as_ref()
        .and_then(Url::host_str)
    {
        span.set("server.address", host);
    }
    span
}

fn name(target: &Target) -> String {
    match target {
        Target::Tool(tool) => match tool.kind {
            ToolKind::Mcp => format!("tools/call {}", tool.name),
            ToolKind::Http => "POST".to_owned(),
            ToolKind::Script => "run script".to_owned(),
            _ => "GET".to_owned(),
        },
        Target::Http(_) => "POST".to_owned(),
        Target::Script(_) => "run script".to_owned(),
        Target::Cli(_) => "run command line".to_owned(),
    }
}
