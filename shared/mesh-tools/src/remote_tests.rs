//! Remote agents: answers at once, streams of text, and what they may not do.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use mesh_types::Code;
use mesh_types::tool::Target;
use tokio::sync::Notify;

use super::*;
use crate::test_support::{Site, answer, call_of, json as json_answer, toolbox};
use crate::{Toolbox, ToolsConfig};

fn to(url: String, payload: Value) -> ToolCall {
    let agent = HttpAgent {
        url,
        effect: None,
        timeout: None,
    };
    call_of(Target::Http(agent), payload)
}

fn stream(body: impl Into<Body>) -> axum::response::Response {
    answer(200, &[("content-type", "text/event-stream; charset=utf-8")], body)
}

#[tokio::test]
async fn a_remote_agent_gets_the_payload_and_answers_an_object() {
    let site = Site::new(|seen| match seen.path.as_str() {
        "/text" => answer(200, &[("content-type", "text/plain")], "hello"),
        "/list" => json_answer(200, "[1]"),
        "/failed" => answer(502, &[], "down"),
        _ => json_answer(
            200,
            r#"{"text": "hi", "usage": {"input_tokens": 3, "output_tokens": 4, "cost_usd": 0.5}}"#,
        ),
    })
    .await;
    let toolbox = toolbox();
    let call = async |path: &str| toolbox.call(to(site.url(path), json!({"q": 1})), drop).await;
    let reply = call("/").await.unwrap();
    assert_eq!((&reply.output["text"], reply.usage), (&json!("hi"), (3, 4, 0.5)));
    assert_eq!(reply.provider.as_deref(), Some("127.0.0.1"));
    let seen = site.only();
    assert_eq!(seen.header("idempotency-key"), Some("inv_1/7"));
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(body, json!({"payload": {"q": 1}, "session": "s-1"}));
    assert_eq!(call("/text").await.unwrap().output, json!({"text": "hello"}));
    assert_eq!(call("/list").await.unwrap().output, json!({"value": [1]}));
    let problem = call("/failed").await.unwrap_err();
    assert!(problem.is(Code::ToolFailed) && problem.is_transient(), "{problem:?}");
}

/// The server holds the second half back until the first has arrived here.
#[tokio::test]
async fn streamed_text_arrives_while_it_is_made() {
    let arrived = Arc::new(Notify::new());
    let gate = Arc::clone(&arrived);
    let site = Site::new(move |_| {
        let gate = Arc::clone(&gate);
        let pieces = futures::stream::unfold(0, move |turn| {
            let gate = Arc::clone(&gate);
            async move {
                let piece = match turn {
                    0 => "data: {\"text\": \"one \"}\n\n",
                    1 => {
                        gate.notified().await;
                        "data: {\"choices\":[{\"delta\":{\"content\":\"two\"}}]}\r\n\r\ndata: {\"choices\":[]}\n\n"
                    }
                    2 => "data: {\"usage\": {\"prompt_tokens\": 5, \"completion_tokens\": 6}}\n\n: idle\n\ndata: [DO",
                    3 => "NE]\n\ndata: {\"text\": \"never\"}\n\n",
                    _ => return None,
                };
                Some((Ok::<_, std::io::Error>(piece), turn + 1))
            }
        });
        stream(Body::from_stream(pieces))
    })
    .await;
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&pieces);
    let on_text = move |piece| {
        kept.lock().unwrap().push(piece);
        arrived.notify_one();
    };
    let reply = toolbox().call(to(site.url("/"), json!({})), on_text).await.unwrap();
    assert_eq!(*pieces.lock().unwrap(), ["one ", "two"]);
    assert_eq!((reply.output, reply.usage), (json!({"text": "one two"}), (5, 6, 0.0)));
}

#[tokio::test]
async fn a_stream_may_end_with_an_object_or_an_error_and_is_bounded() {
    let site = Site::new(|seen| match seen.path.as_str() {
        "/object" => stream("data: {\"text\":\"a\"}\n\ndata: {\"output\":{\"text\":\"other\",\"n\":1}}"),
        "/error" => stream("data: {\"text\":\"a\"}\n\ndata: {\"error\":{\"message\":\"out of luck\"}}\n\n"),
        "/event" => stream(format!("data: {}", "x".repeat(2_000))),
        _ => stream("data: {\"text\":\"0123456789\"}\n\n".repeat(101)),
    })
    .await;
    let toolbox = Toolbox::new(ToolsConfig {
        private_networks: vec!["loopback".into()],
        output_bytes_max: 1_000,
        ..ToolsConfig::default()
    });
    let call = async |path: &str| toolbox.call(to(site.url(path), json!({})), drop).await;
    assert_eq!(call("/object").await.unwrap().output, json!({"text": "a", "n": 1}));
    let problem = call("/error").await.unwrap_err();
    assert!(
        problem.is_transient() && problem.detail.contains("out of luck"),
        "{problem:?}"
    );
    for path in ["/event", "/text"] {
        let problem = call(path).await.unwrap_err();
        assert!(problem.detail.contains("1000 bytes"), "{path}: {problem:?}");
    }
}

#[test]
fn usage_that_cannot_be_is_cut() {
    assert_eq!(
        usage(&json!({"input_tokens": u64::MAX, "output_tokens": -1, "cost_usd": -3.0})),
        (TOKENS_MAX, 0, 0.0)
    );
    assert_eq!(usage(&json!("much")), (0, 0, 0.0));
}
