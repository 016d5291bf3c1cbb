//! No stream and no long request outlives its credential by more than ten seconds, whichever protocol it speaks.

use std::time::{Duration, Instant};

use gateway::Config;
use reqwest::Response;
use serde_json::{Value, json};

use crate::guarded::Guarded;
use crate::made::the_invocation;

const KEY: &str = "default_ann";
/// Longer than the promise only by what a loaded machine takes.
const PATIENCE: Duration = Duration::from_secs(16);
/// Of a test whose streams do not end.
const NEVER: Duration = Duration::from_secs(90);

/// The data of a stream's last event, once the server has ended it.
async fn last_of(stream: Response) -> Value {
    assert_eq!(stream.status(), 200, "{}", stream.url());
    let text = tokio::time::timeout(NEVER, stream.text()).await;
    let text = text.expect("it ends").unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
    last.and_then(|data| serde_json::from_str(data).ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_revoked_credential_ends_streams_of_every_protocol_and_requests_that_wait() {
    let guarded = Guarded::start(Config::default()).await;
    let sofia = json!({"metadata": {"name": "sofia"}, "spec": {"instructions": "You are Sofia"}});
    let made = guarded.post(KEY, "/api/v1/agents", &sofia).send().await.unwrap();
    assert_eq!(made.status(), 201);
    guarded.edge.commit(&crate::facts::journal()[..2]);

    let said = json!({"role": "user", "content": "hi"});
    let open = async |path: &str, body: Value| guarded.post(KEY, path, &body).send().await.unwrap();
    let chat = |stream: bool| json!({"model": "sofia", "messages": [said], "stream": stream});
    let openai = open("/v1/chat/completions", chat(true)).await;
    let message = json!({"messageId": "m1", "role": "ROLE_USER", "parts": [{"text": "hi"}]});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message}});
    let a2a = open("/a2a/sofia", call).await;
    let run = json!({"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": "hi"}],
        "tools": [], "context": [], "state": {}, "forwardedProps": {}});
    let ag_ui = open("/api/v1/agents/sofia/ag-ui", run).await;
    let events = format!("/api/v1/invocations/{}/events", the_invocation());
    let events = guarded.get(KEY, &events).send().await.unwrap();

    // These two wait for the end of the invocation.
    let waiting = guarded.post(KEY, "/v1/chat/completions", &chat(false)).send();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "sofia", "arguments": {"text": "hi"}}});
    let tool = guarded
        .post(KEY, "/mcp", &call)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-06-18")
        .send();
    let revoked = async {
        let all_began = || async { guarded.edge.world.accepted.lock().unwrap().len() == 5 };
        mesh_testkit::wait_until(Duration::from_secs(30), all_began).await;
        guarded.revoke_all();
        Instant::now()
    };
    let streams = async { tokio::join!(last_of(openai), last_of(a2a), last_of(ag_ui), last_of(events)) };
    let answers = async { tokio::join!(tokio::time::timeout(NEVER, waiting), tokio::time::timeout(NEVER, tool)) };
    let (revoked_at, (openai, a2a, ag_ui, events), (waiting, tool)) = tokio::join!(revoked, streams, answers);
    assert!(revoked_at.elapsed() < PATIENCE, "{:?}", revoked_at.elapsed());

    assert_eq!(openai["error"]["code"], "invalid_api_key", "{openai}");
    assert_eq!(ag_ui["type"], "RUN_ERROR", "{ag_ui}");
    assert!(a2a["result"].is_object(), "it is closed after what was told: {a2a}");
    assert_eq!(events["state"], "running", "{events}");
    let waiting = waiting.expect("it is answered").unwrap();
    assert_eq!(waiting.status(), 401);
    let body: Value = waiting.json().await.unwrap();
    assert_eq!(body["error"]["code"], "invalid_api_key", "{body}");
    assert_eq!(tool.expect("it is answered").unwrap().status(), 401);
}

#[tokio::test]
async fn what_is_still_good_goes_on() {
    let guarded = Guarded::start(Config::default()).await;
    let journal = crate::facts::journal();
    guarded.edge.commit(&journal[..2]);
    let events = format!("/api/v1/invocations/{}/events", the_invocation());
    let stream = guarded.get(KEY, &events).send().await.unwrap();
    let whole = async {
        // Longer than a credential is believed without being asked about again.
        tokio::time::sleep(Duration::from_secs(11)).await;
        guarded.edge.commit(&journal[2..]);
        guarded.edge.relay(&journal[2..]).await;
    };
    let (last, ()) = tokio::join!(last_of(stream), whole);
    assert_eq!(last["state"], "completed", "{last}");
}
