//! Names, queries, routes, methods and pages that are refused (CONTRACT, "Bad input").

use reqwest::Method;

use crate::cases::{Case, INVOKE, case, get, posted, run};

const SOME_ID: &str = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[tokio::test]
async fn names_that_are_none_and_queries_out_of_bounds_are_refused() {
    let (name, invalid) = ("mesh/invalid-name", "mesh/invalid-request");
    let mut cases: Vec<Case> = ["a.b", "*", "%3E", "a%20b", "%00", "a%0d%0aPUB", "%FF", "%F0%9F%92%A5"]
        .into_iter()
        .map(|bad| get(format!("/api/v1/agents/{bad}"), 400, name))
        .collect();
    cases.push(get(format!("/api/v1/agents/{}", "x".repeat(65)), 400, name).of("agent"));
    for id in [
        "1",
        "inv_",
        "inv_01arz3ndektsv4rrffq69g5fav",
        "mem_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "*",
    ] {
        cases.push(get(format!("/api/v1/invocations/{id}"), 400, name).of("id"));
    }
    for tenant in ["a.b", "*", ">", "a b"] {
        cases.push(
            get("/api/v1/agents", 400, name)
                .of("Mesh-Tenant")
                .with("mesh-tenant", tenant),
        );
    }
    for limit in ["0", "-1", "501", "abc", "99999999999999999999"] {
        for list in [
            "/api/v1/agents",
            "/api/v1/invocations",
            "/api/v1/dead-letters",
            "/api/v1/channels/general/messages",
        ] {
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
        cases.push(
            get(format!("/api/v1/invocations/{SOME_ID}/events"), 400, invalid)
                .of("Last-Event-ID")
                .with("last-event-id", id),
        );
    }
    cases.push(
        get(
            format!("/api/v1/invocations/{SOME_ID}/steps?bodies=maybe"),
            400,
            invalid,
        )
        .of("bodies"),
    );
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
        Case {
            status: 415,
            media_type: "text/plain",
            ..posted(INVOKE, "{}", media)
        },
        Case {
            status: 415,
            media_type: "application/x-www-form-urlencoded",
            ..posted(INVOKE, "a=b", media)
        },
        get("/api/v1/agents", 403, "identity/forbidden").with("host", "evil.example"),
        Case {
            status: 403,
            ..posted(INVOKE, "{}", "identity/forbidden")
        }
        .with("origin", foreign),
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
        posted(
            test_channel,
            r#"{"agent_id":"a","payload":{"microdao_id":"a.b"}}"#,
            "mesh/invalid-name",
        )
        .of("payload.microdao_id"),
        posted(test_channel, r#"{"agent_id":"a","payload":{"microdao_id":7}}"#, invalid).of("payload.microdao_id"),
        posted(
            "/internal/agents/sofia/post-to-channel",
            r#"{"channel_id":"a b","text":"x"}"#,
            invalid,
        )
        .of("channel_id"),
        posted(
            "/internal/agents/so.fia/post-to-channel",
            r#"{"channel_id":"a","text":"x"}"#,
            "mesh/invalid-name",
        )
        .of("agent_id"),
        posted(
            "/internal/agent-memory/query",
            r#"{"agent_id":"a","query":"x","k":0}"#,
            invalid,
        )
        .of("k"),
        posted(
            "/internal/agent-memory/store",
            r#"{"agent_id":"a","content":7}"#,
            invalid,
        )
        .of("content"),
        posted("/internal/llm/proxy", r#"{"model":"m","messages":[]}"#, invalid).of("messages"),
        get("/api/messaging/channels/general/messages?limit=0", 400, invalid).of("limit"),
    ])
    .await;
}
