//! One entry for every kind of call.

use std::sync::Arc;
use std::time::Duration;

use mesh_types::agent::{Script, Span};
use mesh_types::json::DEPTH_MAX;
use mesh_types::tool::{Target, Tool, ToolCall, ToolKind, ToolReply};
use mesh_types::{Code, Problem};
use serde_json::Value;

use crate::config::ToolsConfig;
use crate::guard::Guard;
use crate::mcp::{self, Servers};
use crate::web::Web;
use crate::{failure, http_tool, process, remote, traced};

/// Cheap to clone; holds connections and servers that are kept between calls.
#[derive(Debug, Clone)]
pub struct Toolbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ToolsConfig,
    /// Or why there is none; said at each call that needs it.
    web: Result<Web, String>,
    servers: Servers,
}

impl Toolbox {
    pub fn new(config: ToolsConfig) -> Self {
        let web = Guard::new(&config.private_networks)
            .and_then(|guard| Web::new(guard).map_err(|error| failure::said(&error)));
        let servers = Servers::new(config.mcp_idle());
        Self {
            inner: Arc::new(Inner { config, web, servers }),
        }
    }

    /// One try, within `call.timeout`; dropping it stops what it started.
    ///
    /// # Errors
    /// `ToolFailed`, of a transient status where a repeat may heal it; `ToolRefused` where it may not be reached;
    /// `Timeout`.
    pub async fn call(&self, call: ToolCall, on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        let mut span = traced::call(&call);
        let reply = span.run(self.call_once(call, on_text)).await;
        if let Err(problem) = &reply {
            span.fail(&problem.kind);
        }
        reply
    }

    async fn call_once(&self, call: ToolCall, mut on_text: impl FnMut(String) + Send) -> Result<ToolReply, Problem> {
        let bytes_max = self.inner.config.output_bytes_max;
        let limit = call.timeout;
        // A process has its own watch: it must be seen to end when its time is over.
        let reply = match &call.target {
            Target::Script(script) => self.script(script, &call).await,
            Target::Tool(tool) => match (tool.kind, &tool.script) {
                (ToolKind::Script, Some(script)) => self.script(script, &call).await,
                _ => within(limit, self.tool(tool, &call)).await,
            },
            Target::Cli(agent) => {
                let session = call.session.as_deref();
                process::run_cli(agent, &call.arguments, session, limit, bytes_max, &mut on_text).await
            }
            Target::Http(agent) => {
                let web = self.web()?;
                within(limit, remote::call(web, agent, &call, bytes_max, &mut on_text)).await
            }
        }?;
        check_depth(&reply.output)?;
        Ok(reply)
    }

    async fn script(&self, script: &Script, call: &ToolCall) -> Result<ToolReply, Problem> {
        let bytes_max = self.inner.config.output_bytes_max;
        process::run_script(script, &call.arguments, call.timeout, bytes_max).await
    }

    async fn tool(&self, tool: &Tool, call: &ToolCall) -> Result<ToolReply, Problem> {
        let (web, bytes_max) = (self.web()?, self.inner.config.output_bytes_max);
        match (tool.kind, tool.name.as_str()) {
            (ToolKind::Http, _) => http_tool::post(web, tool, call, bytes_max).await,
            (ToolKind::Mcp, _) => mcp::call(&self.inner.servers, web, tool, call, bytes_max).await,
            (ToolKind::Builtin, "http_get") => http_tool::get(web, tool, call, bytes_max).await,
            (kind, name) => Err(Problem::new(
                Code::Internal,
                format!("the tool `{name}` of kind {kind:?} is not reached outside of the mesh"),
            )),
        }
    }

    fn web(&self) -> Result<&Web, Problem> {
        self.inner
            .web
            .as_ref()
            .map_err(|error| Problem::new(Code::Internal, format!("tools have no HTTP client: {error}")))
    }
}

async fn within(
    limit: Duration,
    reply: impl Future<Output = Result<ToolReply, Problem>>,
) -> Result<ToolReply, Problem> {
    let in_time = tokio::time::timeout(limit, reply).await;
    in_time.unwrap_or_else(|_| Err(Problem::new(Code::Timeout, format!("no answer within {}", Span(limit)))))
}

/// What is kept must be readable again wherever it is nested: levels count as in requests.
fn check_depth(output: &Value) -> Result<(), Problem> {
    if is_within(output, DEPTH_MAX) {
        return Ok(());
    }
    Err(failure::permanent(format!(
        "the answer is nested deeper than {DEPTH_MAX} levels"
    )))
}

fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| is_within(item, levels - 1)),
        Value::Object(object) => levels > 0 && object.values().all(|item| is_within(item, levels - 1)),
        _ => true,
    }
}
