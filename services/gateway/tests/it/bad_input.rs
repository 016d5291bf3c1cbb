//! Bad bodies (CONTRACT): a 4xx that names the field and the reason, never a 5xx; the next good request works.

use reqwest::Method;
use serde_json::json;

use crate::cases::{Case, INVOKE, malformed, posted, run};
use crate::support::{Edge, problem};

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
        posted(INVOKE, r#"{"idempotency_key":"a"}"#, invalid)
            .of("idempotency_key")
            .with("idempotency-key", "b"),
        posted(INVOKE, r#"{"idempotency_key":""}"#, invalid).of("idempotency_key"),
        posted(agents, "{}", invalid),
        posted(agents, r#"{"metadata":{"name":"a.*"}}"#, invalid).of("metadata.name"),
        posted(agents, r#"{"metadata":{"name":"x"},"spec":{"modle":{}}}"#, invalid),
        posted(agents, r#"{"metadata":{"name":"x","tenant":"b"}}"#, invalid)
            .of("metadata.tenant")
            .with("mesh-tenant", "a"),
        posted("/api/v1/agents/sofia/publish", r#"{"force":true}"#, invalid),
        posted("/api/v1/agents/sofia/rollback", r#"{"version":-1}"#, invalid).of("version"),
        posted("/api/v1/agents/sofia/rollback", r#"{"version":99999999999}"#, invalid).of("version"),
        posted("/api/v1/channels/general/messages", r#"{"text":5}"#, invalid).of("text"),
        posted(
            "/api/v1/channels/general/messages",
            r#"{"text":"x","author":{"kind":"robot","id":"r"}}"#,
            invalid,
        )
        .of("author.kind"),
        posted("/api/v1/memories", r#"{"agent":"a","content":"x","secret":1}"#, invalid),
        posted("/api/v1/memories/search", r#"{"agent":"a","query":"x","k":0}"#, invalid).of("k"),
        posted(
            "/api/v1/memories/search",
            r#"{"agent":"a","query":"x","k":101}"#,
            invalid,
        )
        .of("k"),
        Case {
            method: Method::PUT,
            ..posted("/api/v1/agents/other", r#"{"metadata":{"name":"sofia"}}"#, invalid).of("metadata.name")
        },
        Case {
            status: 422,
            ..posted(
                agents,
                r#"{"metadata":{"name":"x"},"spec":{"model":{"temperature":9}}}"#,
                "registry/agent-invalid",
            )
            .of("spec.model.temperature")
        },
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
    let send = |body: String| {
        edge.request(Method::POST, INVOKE)
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    let limit = 1024 * 1024;
    assert_eq!(send(body(limit)).await.unwrap().status(), 202);
    for size in [limit + 1, 2 * limit, 4 * limit] {
        let refused = send(body(size)).await.unwrap();
        assert_eq!(refused.status(), 413, "{size}");
        assert_eq!(problem(refused).await["type"], "mesh/body-too-large");
        assert_eq!(
            send(body(limit)).await.unwrap().status(),
            202,
            "the next good request after {size}"
        );
    }
    // Sent in chunks, nothing says beforehand how long it is.
    let chunks = body(limit + 1)
        .into_bytes()
        .chunks(60_000)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect::<Vec<_>>();
    let streamed = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    assert_eq!(
        edge.request(Method::POST, INVOKE)
            .body(streamed)
            .send()
            .await
            .unwrap()
            .status(),
        413
    );
}

#[tokio::test]
async fn a_missing_content_type_is_taken_as_json() {
    let edge = Edge::start().await;
    let response = edge
        .request(Method::POST, INVOKE)
        .body(json!({"payload": {"text": "hi"}}).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
}
