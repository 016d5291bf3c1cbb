//! Bad input (CONTRACT): a 4xx that names the field and the reason, never a 5xx; the next good request works.

use reqwest::Method;
use serde_json::json;

use crate::support::{Edge, problem};

const INVOKE: &str = "/api/v1/agents/sofia/invocations";
const SOME_ID: &str = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// What is sent, and which type (and field) the problem must have.
struct Case {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    media_type: &'static str,
    body: Option<Vec<u8>>,
    status: u16,
    kind: &'static str,
    field: Option<&'static str>,
}

fn case(method: Method, path: impl Into<String>, status: u16, kind: &'static str) -> Case {
    Case { method, path: path.into(), headers: Vec::new(), media_type: "application/json", body: None, status, kind, field: None }
}

fn get(path: impl Into<String>, status: u16, kind: &'static str) -> Case {
    case(Method::GET, path, status, kind)
}

/// A body that is refused as malformed.
fn malformed(body: impl Into<Vec<u8>>) -> Case {
    posted(INVOKE, body, "mesh/malformed-json")
}

fn posted(path: &str, body: impl Into<Vec<u8>>, kind: &'static str) -> Case {
    Case { body: Some(body.into()), ..case(Method::POST, path, 400, kind) }
}

impl Case {
    fn of(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

async fn run(cases: Vec<Case>) {
    let edge = Edge::start().await;
    edge.declare_sofia().await;
    for Case { method, path, headers, media_type, body, status, kind, field } in cases {
        let shown = body.as_deref().map(|body| String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned());
        let case = format!("{method} {path} {headers:?} {shown:?}");
        let mut request = edge.request(method, &path);
        if let Some(body) = body {
            request = request.header("content-type", media_type).body(body);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
        assert_eq!(response.status(), status, "{case}: {:?}", response.text().await);
        let problem = problem(response).await;
        assert_eq!(problem["type"], kind, "{case}: {problem}");
        if let Some(field) = field {
            assert_eq!(problem["field"], field, "{case}: {problem}");
        }
        let good = edge.get("/api/v1/agents/sofia").send().await.unwrap();
        assert_eq!(good.status(), 200, "the next good request after {case}");
    }
    let accepted = edge.world.accepted.lock().unwrap().len();
    assert_eq!(accepted, 0, "nothing bad reached a service");
}

#[tokio::test]
async fn json_that_could_be_read_in_two_ways_is_refused() {
    let nested = |depth: usize| format!("{{\"payload\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    run(vec![
        malformed("{"),
        malformed(""),
        malformed("not json"),
        malformed("{\"payload\":{}} {}"),
        malformed("{\"payload\":1,\"payload\":2}"),
        malformed("{\"payload\":{\"a\":{\"k\":1,\"k\":2}}}"),
        malformed(nested(64)),
        malformed(nested(100_000)),
        malformed("[".repeat(1_000_000)),
        malformed(r#"{"payload":"\ud800"}"#),
        malformed(r#"{"payload":"\udc00\ud800"}"#),
        malformed(b"{\"payload\":\"\xff\xfe\"}".to_vec()),
        malformed("{\"payload\":NaN}"),
        malformed("{\"payload\":1e999}"),
        malformed("{\"payload\":123456789012345678901234567890}"),
        malformed("{\"payload\":-123456789012345678901234567890}"),
    ])
    .await;
}

#[tokio::test]
async fn wrong_types_and_unknown_fields_are_refused_by_name() {
    let invalid = "mesh/invalid-request";
    let agents = "/api/v1/agents";
    run(vec![
        posted(INVOKE, "[]", invalid),
        posted(INVOKE, "null", invalid),
        posted(INVOKE, r#"{"payload":{},"nope":1}"#, invalid),
        posted(INVOKE, r#"{"priority":-1}"#, invalid).of("priority"),
        posted(INVOKE, r#"{"priority":1000}"#, invalid).of("priority"),
        posted(INVOKE, r#"{"delay_ms":-5}"#, invalid).of("delay_ms"),
        posted(INVOKE, r#"{"deadline_ms":1.5}"#, invalid).of("deadline_ms"),
        posted(INVOKE, r#"{"invocation_id":"mem_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, invalid).of("invocation_id"),
        posted(INVOKE, r#"{"context":[]}"#, invalid).of("context"),
        posted(INVOKE, r#"{"stream":true}"#, invalid).of("stream"),
        posted(INVOKE, r#"{"idempotency_key":"a"}"#, invalid).of("idempotency_key").with("idempotency-key", "b"),
        posted(INVOKE, r#"{"idempotency_key":""}"#, invalid).of("idempotency_key"),
        posted(agents, "{}", invalid),
        posted(agents, r#"{"metadata":{"name":"a.*"}}"#, invalid).of("metadata.name"),
        posted(agents, r#"{"metadata":{"name":"x"},"spec":{"modle":{}}}"#, invalid),
        posted(agents, r#"{"metadata":{"name":"x","tenant":"b"}}"#, invalid).of("metadata.tenant").with("mesh-tenant", "a"),
        posted("/api/v1/agents/sofia/publish", r#"{"force":true}"#, invalid),
        posted("/api/v1/agents/sofia/rollback", r#"{"version":-1}"#, invalid).of("version"),
        posted("/api/v1/agents/sofia/rollback", r#"{"version":99999999999}"#, invalid).of("version"),
        posted("/api/v1/channels/general/messages", r#"{"text":5}"#, invalid).of("text"),
        posted("/api/v1/channels/general/messages", r#"{"text":"x","author":{"kind":"robot","id":"r"}}"#, invalid).of("author.kind"),
        posted("/api/v1/memories", r#"{"agent":"a","content":"x","secret":1}"#, invalid),
        posted("/api/v1/memories/search", r#"{"agent":"a","query":"x","k":0}"#, invalid).of("k"),
        posted("/api/v1/memories/search", r#"{"agent":"a","query":"x","k":101}"#, invalid).of("k"),
        Case { method: Method::PUT, ..posted("/api/v1/agents/other", r#"{"metadata":{"name":"sofia"}}"#, invalid).of("metadata.name") },
        Case { status: 422, ..posted(agents, r#"{"metadata":{"name":"x"},"spec":{"model":{"temperature":9}}}"#, "registry/agent-invalid").of("spec.model.temperature") },
    ])
    .await;
}

#[tokio::test]
async fn names_that_are_none_and_queries_out_of_bounds_are_refused() {
    let (name, invalid) = ("mesh/invalid-name", "mesh/invalid-request");
    let mut cases: Vec<Case> = ["a.b", "*", "%3E", "a%20b", "%00", "a%0d%0aPUB", "%FF", "%F0%9F%92%A5"]
        .into_iter()
        .map(|bad| get(format!("/api/v1/agents/{bad}"), 400, name))
        .collect();
    cases.push(get(format!("/api/v1/agents/{}", "x".repeat(65)), 400, name).of("agent"));
    for id in ["1", "inv_", "inv_01arz3ndektsv4rrffq69g5fav", "mem_01ARZ3NDEKTSV4RRFFQ69G5FAV", "*"] {
        cases.push(get(format!("/api/v1/invocations/{id}"), 400, name).of("id"));
    }
    for tenant in ["a.b", "*", ">", "a b"] {
        cases.push(get("/api/v1/agents", 400, name).of("Mesh-Tenant").with("mesh-tenant", tenant));
    }
    for limit in ["0", "-1", "501", "abc", "99999999999999999999"] {
        for list in ["/api/v1/agents", "/api/v1/invocations", "/api/v1/dead-letters", "/api/v1/channels/general/messages"] {
            cases.push(get(format!("{list}?limit={limit}"), 400, invalid).of("limit"));
        }
    }
    for (query, field) in [
        ("state=sleeping", "state"),
        ("since=yesterday", "since"),
        ("agent=a.b", "agent"),
        ("parent=x", "parent"),
        ("colour=red", "colour"),
        ("state=failed&state=dead", "state"),
    ] {
        cases.push(get(format!("/api/v1/invocations?{query}"), 400, invalid).of(field));
    }
    for wait in ["301", "-1", "soon"] {
        cases.push(posted(&format!("{INVOKE}?wait={wait}"), "{}", invalid).of("wait"));
    }
    for id in ["x", "-1", "1.2", "0.0.0.0.0.0.0"] {
        cases.push(get(format!("/api/v1/invocations/{SOME_ID}/events"), 400, invalid).of("Last-Event-ID").with("last-event-id", id));
    }
    cases.push(get(format!("/api/v1/invocations/{SOME_ID}/steps?bodies=maybe"), 400, invalid).of("bodies"));
    run(cases).await;
}

#[tokio::test]
async fn strange_routes_methods_media_types_and_pages_are_refused() {
    let (route, method) = ("mesh/route-not-found", "mesh/method-not-allowed");
    let (media, foreign) = ("mesh/unsupported-media-type", "https://evil.example");
    run(vec![
        get("/api/v1/nope", 404, route),
        get("/api/v2/agents", 404, route),
        get("/api/v1/agents/", 404, route),
        get("/%2e%2e/%2e%2e/etc/passwd", 404, route),
        case(Method::PATCH, "/api/v1/agents", 405, method),
        case(Method::DELETE, "/api/v1/invocations", 405, method),
        case(Method::PUT, "/health", 405, method),
        case(Method::from_bytes(b"BREW").unwrap(), "/api/v1/agents", 405, method),
        Case { status: 415, media_type: "text/plain", ..posted(INVOKE, "{}", media) },
        Case { status: 415, media_type: "application/x-www-form-urlencoded", ..posted(INVOKE, "a=b", media) },
        get("/api/v1/agents", 403, "identity/forbidden").with("host", "evil.example"),
        Case { status: 403, ..posted(INVOKE, "{}", "identity/forbidden") }.with("origin", foreign),
        case(Method::DELETE, "/api/v1/agents/sofia", 403, "identity/forbidden").with("origin", "null"),
    ])
    .await;
}

#[tokio::test]
async fn kept_routes_name_what_is_wrong_too() {
    let invalid = "mesh/invalid-request";
    let test_channel = "/internal/agent-runtime/test-channel";
    run(vec![
        posted(test_channel, "{", "mesh/malformed-json"),
        posted(test_channel, "{}", invalid),
        posted(test_channel, r#"{"agent_id":"agent:*"}"#, "mesh/invalid-name").of("agent_id"),
        posted(test_channel, r#"{"agent_id":"a","payload":{"microdao_id":"a.b"}}"#, "mesh/invalid-name").of("payload.microdao_id"),
        posted(test_channel, r#"{"agent_id":"a","payload":{"microdao_id":7}}"#, invalid).of("payload.microdao_id"),
        posted("/internal/agents/sofia/post-to-channel", r#"{"channel_id":"a b","text":"x"}"#, invalid).of("channel_id"),
        posted("/internal/agents/so.fia/post-to-channel", r#"{"channel_id":"a","text":"x"}"#, "mesh/invalid-name").of("agent_id"),
        posted("/internal/agent-memory/query", r#"{"agent_id":"a","query":"x","k":0}"#, invalid).of("k"),
        posted("/internal/agent-memory/store", r#"{"agent_id":"a","content":7}"#, invalid).of("content"),
        posted("/internal/llm/proxy", r#"{"model":"m","messages":[]}"#, invalid).of("messages"),
        get("/api/messaging/channels/general/messages?limit=0", 400, invalid).of("limit"),
    ])
    .await;
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not() {
    let edge = Edge::start().await;
    let body = |size: usize| {
        let frame = r#"{"payload":""}"#.len();
        format!(r#"{{"payload":"{}"}}"#, "x".repeat(size - frame))
    };
    let send = |body: String| edge.request(Method::POST, INVOKE).header("content-type", "application/json").body(body).send();
    let limit = 1024 * 1024;
    assert_eq!(send(body(limit)).await.unwrap().status(), 202);
    for size in [limit + 1, 2 * limit, 4 * limit] {
        let refused = send(body(size)).await.unwrap();
        assert_eq!(refused.status(), 413, "{size}");
        assert_eq!(problem(refused).await["type"], "mesh/body-too-large");
        assert_eq!(send(body(limit)).await.unwrap().status(), 202, "the next good request after {size}");
    }
    // Sent in chunks, nothing says beforehand how long it is.
    let chunks = body(limit + 1).into_bytes().chunks(60_000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    assert_eq!(edge.request(Method::POST, INVOKE).body(streamed).send().await.unwrap().status(), 413);
}

#[tokio::test]
async fn a_missing_content_type_is_taken_as_json() {
    let edge = Edge::start().await;
    let response = edge.request(Method::POST, INVOKE).body(json!({"payload": {"text": "hi"}}).to_string()).send().await.unwrap();
    assert_eq!(response.status(), 202);
}
