//! Bad input over HTTP against the real mesh (CONTRACT, "Bad input"): a 4xx that says why, and the next good request
//! works.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Http, Mesh, send, unique};

const INVOKE: &str = "/api/v1/agents/sofia/invocations";
const MIB: usize = 1024 * 1024;

struct Bad {
    method: Method,
    path: String,
    body: Vec<u8>,
    status: u16,
    /// What the problem must mention in its field or its text.
    names: &'static str,
}

fn posted(path: &str, body: impl Into<Vec<u8>>, status: u16, names: &'static str) -> Bad {
    Bad {
        method: Method::POST,
        path: path.to_owned(),
        body: body.into(),
        status,
        names,
    }
}

fn read(path: &str, status: u16, names: &'static str) -> Bad {
    Bad {
        method: Method::GET,
        path: path.to_owned(),
        body: Vec::new(),
        status,
        names,
    }
}

async fn all_are_refused(mesh: &Mesh, cases: Vec<Bad>) {
    let http = mesh.http();
    for bad in cases {
        let shown = String::from_utf8_lossy(&bad.body[..bad.body.len().min(80)]).into_owned();
        let case = format!("{} {} {shown:?}", bad.method, bad.path);
        let request = http
            .request(bad.method, &bad.path)
            .header("content-type", "application/json");
        let answer = send(request.body(bad.body)).await;
        assert_eq!(answer.status, bad.status, "{case}: {}", answer.text);
        let problem = &answer.body;
        assert!(
            problem["type"].is_string() && problem["detail"].is_string(),
            "{case}: {problem}"
        );
        assert!(problem.to_string().contains(bad.names), "{case}: {problem}");
        works(&http).await;
    }
}

async fn works(http: &Http) {
    let agent = http.get("/api/v1/agents/sofia").await;
    assert_eq!(agent["metadata"]["name"], "sofia");
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused_and_the_next_good_one_works() {
    let mesh = Mesh::shared().await;
    let nested = format!("{{\"payload\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let raw = [
        ("{", ""),
        ("", ""),
        ("[]", ""),
        ("{\"payload\":{}} {}", ""),
        ("{\"payload\":1,\"payload\":2}", "payload"),
        ("{\"payload\":{\"k\":{\"k\":1,\"k\":2}}}", "k"),
        (nested.as_str(), "nested"),
        (r#"{"payload":"\ud800"}"#, ""),
        (r#"{"payload":NaN}"#, ""),
        (r#"{"payload":1e999}"#, ""),
        (r#"{"payload":123456789012345678901234567890}"#, ""),
        (r#"{"payload":{},"nope":1}"#, "nope"),
        (r#"{"priority":-1}"#, "priority"),
        (r#"{"priority":10}"#, "priority"),
        (r#"{"delay_ms":-5}"#, "delay_ms"),
        (r#"{"delay_ms":99999999999999}"#, "delay_ms"),
        (r#"{"deadline_ms":"soon"}"#, "deadline_ms"),
        (r#"{"invocation_id":"mem_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, "invocation_id"),
        (r#"{"reply_to":"$JS.API.STREAM.DELETE.INVOCATIONS"}"#, "reply_to"),
        (r#"{"session":"a\u0000b"}"#, "session"),
    ];
    let mut cases: Vec<Bad> = raw
        .into_iter()
        .map(|(body, names)| posted(INVOKE, body, 400, names))
        .collect();
    cases.push(posted(INVOKE, b"{\"payload\":\"\xff\xfe\"}".to_vec(), 400, ""));
    all_are_refused(mesh, cases).await;
    // And the real thing goes on.
    let ended = mesh
        .http()
        .invoke("sofia", "?wait=30", &json!({"payload": {"text": unique("fine")}}))
        .await
        .expect(200);
    assert_eq!(ended["state"], "completed");
}

#[tokio::test]
async fn names_routes_and_versions_that_are_none_are_refused() {
    let mesh = Mesh::shared().await;
    let missing = "/api/v1/invocations/inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let mut cases = vec![
        posted(
            "/api/v1/agents/nobody-knows-it/invocations",
            "{}",
            404,
            "nobody-knows-it",
        ),
        posted("/api/v1/agents/a*b/invocations", "{}", 400, "agent"),
        posted("/api/v1/agents/%3E/invocations", "{}", 400, "agent"),
        posted("/api/v1/agents/a%20b/invocations", "{}", 400, "agent"),
        posted("/api/v1/agents/sofia/rollback", r#"{"version":999}"#, 404, "999"),
        posted("/api/v1/agents/sofia/rollback", r#"{"version":-1}"#, 400, "version"),
        posted("/api/v1/agents", r#"{"metadata":{"name":"a.b"}}"#, 400, "metadata.name"),
        posted("/api/v1/channels/a.b/messages", r#"{"text":"x"}"#, 400, "channel"),
        posted(
            "/api/v1/memories/search",
            r#"{"agent":"sofia","query":"x","k":0}"#,
            400,
            "k",
        ),
        posted("/internal/agent-runtime/test-channel", "{}", 400, "agent_id"),
        read("/api/v1/invocations/1", 400, "id"),
        read("/api/v1/invocations/inv_", 400, "id"),
        read(missing, 404, ""),
        read(&format!("{missing}/steps"), 404, ""),
        read("/api/v1/invocations?state=sleeping", 400, "state"),
        read("/api/v1/invocations?limit=501", 400, "limit"),
        read("/api/v1/invocations?after=%00", 400, ""),
        read("/api/v1/nothing-here", 404, ""),
    ];
    cases.push(Bad {
        method: Method::PATCH,
        ..read("/api/v1/agents", 405, "")
    });
    all_are_refused(mesh, cases).await;
    for tenant in ["a.b", "*", "a b"] {
        let request = mesh.http().tenant(tenant).request(Method::GET, "/api/v1/agents");
        let problem = send(request).await.expect(400);
        assert!(problem.to_string().contains("Mesh-Tenant"), "{problem}");
    }
}

#[tokio::test]
async fn a_stale_write_is_refused() {
    let mesh = Mesh::shared().await;
    let (http, name) = (mesh.http(), unique("stale"));
    let body = json!({"metadata": {"name": name}, "spec": {"runtime": "noop"}});
    http.post("/api/v1/agents", &body).await.expect(201);
    let path = format!("/api/v1/agents/{name}");
    let request = http.request(Method::PUT, &path).header("If-Match", "\"not-it\"");
    let problem = send(request.json(&body)).await.expect(412);
    assert!(problem["detail"].is_string(), "{problem}");
    let again = http.post("/api/v1/agents", &body).await.expect(409);
    assert!(again.to_string().contains(&name), "{again}");
}

#[tokio::test]
async fn one_mebibyte_is_taken_and_one_byte_more_is_not() {
    let mesh = Mesh::shared().await;
    let (http, name) = (mesh.http(), unique("quiet"));
    let agent = json!({"metadata": {"name": name}, "spec": {"runtime": "noop"}});
    http.post("/api/v1/agents", &agent).await.expect(201);
    http.post(&format!("/api/v1/agents/{name}/publish"), &json!({}))
        .await
        .expect(200);
    let path = format!("/api/v1/agents/{name}/invocations?wait=30");
    let body = |size: usize| {
        let frame = r#"{"payload":{"steps":1,"text":""}}"#.len();
        format!(r#"{{"payload":{{"steps":1,"text":"{}"}}}}"#, "x".repeat(size - frame))
    };
    let send_it = |size| {
        let request = http.request(Method::POST, &path);
        send(request.header("content-type", "application/json").body(body(size)))
    };
    // Published a moment ago, and known.
    let taken = send_it(MIB).await.expect(200);
    assert_eq!(taken["state"], "completed", "{taken}");
    let text = taken["payload"]["text"].as_str().map(str::len);
    assert!(text > Some(MIB - 100), "the payload is kept whole: {text:?}");
    let refused: Value = send_it(MIB + 1).await.expect(413);
    assert_eq!(refused["type"], "mesh/body-too-large");
    assert_eq!(send_it(MIB).await.expect(200)["state"], "completed");
}
