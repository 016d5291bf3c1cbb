//! MCP tools against servers of the official SDK: over standard input and output this very test binary, started again
//! as the server below; over streamable HTTP in axum.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mesh_testkit::wait_until;
use mesh_types::Code;
use mesh_types::tool::{Mcp, Target, Tool, ToolKind};
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, ErrorData, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, model};

use super::*;
use crate::test_support::{Site, answer, call_of, toolbox};
use crate::{Toolbox, ToolsConfig};

const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Default)]
struct Sample {
    cancelled: Arc<AtomicU32>,
}

impl ServerHandler for Sample {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let echo = model::Tool::new("echo", "", Arc::new(rmcp::model::JsonObject::new()));
        Ok(ListToolsResult::with_all_items(vec![echo]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let said = match request.name.as_ref() {
            "echo" => {
                let key = context.meta.get(META_IDEMPOTENCY_KEY).cloned();
                let mut result = CallToolResult::success(vec![ContentBlock::text("echoed")]);
                result.structured_content = Some(json!({"arguments": arguments, "key": key}));
                return Ok(result.into());
            }
            "pid" => std::process::id().to_string(),
            "environment" => {
                let names = std::env::vars_os().map(|(name, _)| name.into_string().unwrap());
                names.collect::<Vec<_>>().join(" ")
            }
            "spawn" => {
                let mut sleep = std::process::Command::new("sleep");
                sleep.arg("600").spawn().unwrap().id().to_string()
            }
            "fail" => return Ok(CallToolResult::error(vec![ContentBlock::text("no such city")]).into()),
            "long" => "x".repeat(2 * 1024 * 1024),
            "cancelled" => self.cancelled.load(Ordering::SeqCst).to_string(),
            "wait" => {
                context.ct.cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                String::new()
            }
            "die" => std::process::exit(3),
            other => return Err(ErrorData::invalid_params(format!("no tool `{other}`"), None)),
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(said)]).into())
    }
}

/// Not a test by itself: the server of the others, which they start by this name.
#[tokio::test]
#[ignore = "the server of the other tests"]
async fn stdio_server() {
    // The harness has written the test's name, without the end of its line.
    println!();
    let serving = Sample::default().serve(rmcp::transport::stdio()).await.unwrap();
    serving.waiting().await.unwrap();
}

/// As above: a server of the oldest protocol that answers a block which nobody knows.
#[test]
#[ignore = "a server of the other tests"]
fn stdio_server_of_old() {
    println!();
    for line in std::io::stdin().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.unwrap()) else {
            continue;
        };
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "old", "version": "0"}
            }),
            Some("tools/call") => json!({"content": [
                {"type": "text", "text": "known"}, {"type": "hologram", "depth": [1, 2]}
            ]}),
            _ if message["id"].is_null() => continue,
            _ => {
                let error = json!({"code": -32601, "message": "unknown method"});
                println!("{}", json!({"jsonrpc": "2.0", "id": message["id"], "error": error}));
                continue;
            }
        };
        println!("{}", json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
    }
}

fn this_binary(server: &str) -> Mcp {
    let binary = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
    let name = format!("mcp::tests::{server}");
    let arguments = ["--ignored", "--exact", "--nocapture", "--test-threads", "1"];
    let mut command = vec![binary, name];
    command.extend(arguments.map(str::to_owned));
    Mcp {
        command,
        url: None,
        tool: None,
    }
}

fn at(url: String) -> Mcp {
    Mcp {
        command: Vec::new(),
        url: Some(url),
        tool: None,
    }
}

fn tool_call(mcp: Mcp, name: &str, arguments: Value) -> ToolCall {
    let tool = ToolSpec {
        kind: ToolKind::Mcp,
        mcp: Some(mcp),
        ..ToolSpec::builtin(name)
    };
    call_of(Target::Tool(Tool(Box::new(tool))), arguments)
}

/// The text of the first block.
async fn text_of(toolbox: &Toolbox, mcp: Mcp, name: &str) -> String {
    let reply = toolbox.call(tool_call(mcp, name, json!({})), drop).await.unwrap();
    reply.output["content"][0]["text"].as_str().unwrap().to_owned()
}

fn is_running(pid: &str) -> bool {
    // One that has ended and is not reaped yet is a zombie.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

async fn gone(pid: &str) {
    wait_until(DEADLINE, || async { !is_running(pid) }).await;
}

fn echoed() -> Value {
    json!({
        "content": [{"type": "text", "text": "echoed"}],
        "structuredContent": {"arguments": {"a": [1]}, "key": "inv_1/7"}
    })
}

#[tokio::test]
async fn a_server_of_standard_input_is_started_once_and_kept() {
    let toolbox = toolbox();
    let server = || this_binary("stdio_server");
    let reply = toolbox.call(tool_call(server(), "echo", json!({"a": [1]})), drop).await;
    assert_eq!(reply.unwrap().output, echoed());
    let renamed = Mcp {
        tool: Some("echo".into()),
        ..server()
    };
    let reply = toolbox
        .call(tool_call(renamed, "anything", json!({"a": [1]})), drop)
        .await;
    assert_eq!(reply.unwrap().output, echoed());
    let fresh = crate::test_support::toolbox();
    let calls = futures::future::join_all((0..8).map(|_| text_of(&fresh, server(), "pid"))).await;
    let pids = BTreeSet::from_iter(calls);
    assert_eq!(pids.len(), 1, "calls at the same time share one server: {pids:?}");
    assert!(!pids.contains(&text_of(&toolbox, server(), "pid").await));
}

#[tokio::test]
async fn a_server_that_died_is_started_again() {
    let toolbox = toolbox();
    let server = || this_binary("stdio_server");
    let first = text_of(&toolbox, server(), "pid").await;
    let problem = toolbox
        .call(tool_call(server(), "die", json!({})), drop)
        .await
        .unwrap_err();
    assert!(problem.is(Code::ToolFailed) && problem.is_transient(), "{problem:?}");
    let second = text_of(&toolbox, server(), "pid").await;
    assert_ne!(first, second);
    gone(&first).await;
}

#[tokio::test]
async fn an_idle_server_ends_and_so_does_all_that_it_started() {
    let toolbox = Toolbox::new(ToolsConfig {
        mcp_idle_seconds: 1,
        ..ToolsConfig::default()
    });
    let server = || this_binary("stdio_server");
    let (pid, child) = (
        text_of(&toolbox, server(), "pid").await,
        text_of(&toolbox, server(), "spawn").await,
    );
    assert!(is_running(&pid) && is_running(&child));
    gone(&pid).await;
    gone(&child).await;
    assert_ne!(text_of(&toolbox, server(), "pid").await, pid);
}

#[tokio::test]
async fn servers_end_with_their_toolbox() {
    let toolbox = toolbox();
    let server = || this_binary("stdio_server");
    let (pid, child) = (
        text_of(&toolbox, server(), "pid").await,
        text_of(&toolbox, server(), "spawn").await,
    );
    assert!(is_running(&pid) && is_running(&child));
    drop(toolbox);
    gone(&pid).await;
    gone(&child).await;
}

#[tokio::test]
async fn a_server_sees_nothing_of_the_environment() {
    let names = text_of(&toolbox(), this_binary("stdio_server"), "environment").await;
    let seen: BTreeSet<_> = names.split(' ').filter(|name| !name.is_empty()).collect();
    assert!(seen.contains("PATH"), "{seen:?}");
    assert!(seen.is_subset(&BTreeSet::from(["HOME", "LANG", "PATH"])), "{seen:?}");
    assert!(
        std::env::vars_os().count() > seen.len(),
        "the test's own environment holds more"
    );
}

#[tokio::test]
async fn an_error_of_the_tool_is_final() {
    let toolbox = toolbox();
    let server = || this_binary("stdio_server");
    for (name, why) in [
        ("fail", "no such city"),
        ("unheard", "no tool `unheard`"),
        ("long", "1048576 bytes"),
    ] {
        let problem = toolbox
            .call(tool_call(server(), name, json!({})), drop)
            .await
            .unwrap_err();
        assert!(problem.is(Code::ToolFailed) && !problem.is_transient(), "{problem:?}");
        assert!(problem.detail.contains(why), "{problem:?}");
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled_at_the_server() {
    let toolbox = toolbox();
    let server = || this_binary("stdio_server");
    assert_eq!(text_of(&toolbox, server(), "cancelled").await, "0");
    let mut call = tool_call(server(), "wait", json!({}));
    call.timeout = Duration::from_millis(200);
    let problem = toolbox.call(call, drop).await.unwrap_err();
    assert!(problem.is(Code::Timeout), "{problem:?}");
    let is_told = || async { text_of(&toolbox, server(), "cancelled").await == "1" };
    wait_until(DEADLINE, is_told).await;
}

#[tokio::test]
async fn an_older_server_is_spoken_to_and_unknown_blocks_are_kept() {
    let call = tool_call(this_binary("stdio_server_of_old"), "any", json!({}));
    let reply = toolbox().call(call, drop).await.unwrap();
    let blocks = json!([{"type": "text", "text": "known"}, {"type": "hologram", "depth": [1, 2]}]);
    assert_eq!(reply.output, json!({"content": blocks}));
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why() {
    let toolbox = toolbox();
    let call = async |command: &[&str]| {
        let mcp = Mcp {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            url: None,
            tool: None,
        };
        toolbox.call(tool_call(mcp, "x", json!({})), drop).await.unwrap_err()
    };
    let problem = call(&["/no/such/program"]).await;
    assert!(
        !problem.is_transient() && problem.detail.contains("does not start"),
        "{problem:?}"
    );
    let problem = call(&["sh", "-c", "echo no licence >&2; exec sleep 0.1"]).await;
    assert!(
        problem.is_transient() && problem.detail.contains("no licence"),
        "{problem:?}"
    );
}

#[tokio::test]
async fn a_server_over_http_is_called_through_the_guard() {
    let mut config = StreamableHttpServerConfig::default();
    config.sse_keep_alive = None;
    let service = StreamableHttpService::new(
        || Ok(Sample::default()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let site = Site::of(axum::Router::new().nest_service("/mcp", service)).await;
    let open = toolbox();
    let reply = open
        .call(tool_call(at(site.url("/mcp")), "echo", json!({"a": [1]})), drop)
        .await;
    assert_eq!(reply.unwrap().output, echoed());
    let problem = open
        .call(tool_call(at(site.url("/mcp")), "fail", json!({})), drop)
        .await
        .unwrap_err();
    assert!(
        !problem.is_transient() && problem.detail.contains("no such city"),
        "{problem:?}"
    );

    let closed = Toolbox::new(ToolsConfig::default());
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{}/mcp", site.address.port());
        let problem = closed
            .call(tool_call(at(url), "echo", json!({})), drop)
            .await
            .unwrap_err();
        assert!(problem.is(Code::ToolRefused), "{host}: {problem:?}");
    }
}

#[tokio::test]
async fn what_is_no_server_of_mcp_is_not_asked_again() {
    let site = Site::new(|seen| match seen.path.as_str() {
        "/page" => answer(200, &[("content-type", "text/html")], "<p>hello"),
        "/moved" => answer(307, &[("location", "http://169.254.169.254/")], ""),
        _ => answer(404, &[], ""),
    })
    .await;
    let toolbox = toolbox();
    for path in ["/page", "/moved", "/missing"] {
        let call = tool_call(at(site.url(path)), "echo", json!({}));
        let problem = toolbox.call(call, drop).await.unwrap_err();
        assert!(
            problem.is(Code::ToolFailed) && !problem.is_transient(),
            "{path}: {problem:?}"
        );
    }
    assert!(site.seen().iter().all(|seen| seen.method != "GET"));
}

#[tokio::test]
async fn a_server_over_http_that_is_lost_or_busy_may_be_asked_again() {
    let site = Site::new(|_| answer(503, &[("retry-after", "9")], "")).await;
    let toolbox = toolbox();
    let url = format!("http://user:secret@{}/mcp?token=secret", site.address);
    let problem = toolbox
        .call(tool_call(at(url.clone()), "echo", json!({})), drop)
        .await
        .unwrap_err();
    assert_eq!(
        (problem.status, problem.retry_after_seconds),
        (503, Some(9)),
        "{problem:?}"
    );
    drop(site);
    let problem = toolbox
        .call(tool_call(at(url), "echo", json!({})), drop)
        .await
        .unwrap_err();
    assert!(problem.is(Code::ToolFailed) && problem.is_transient(), "{problem:?}");
    assert!(!problem.detail.contains("secret"), "{problem:?}");
}
