//! The API's description and its pages, which must load on a machine without a network.

use serde_json::Value;

use crate::harness::Mesh;

#[tokio::test]
async fn the_openapi_document_describes_the_routes_that_are_served() {
    let mesh = Mesh::shared().await;
    let document = mesh.http().get("/api/v1/openapi.json").await;
    let version = document["openapi"].as_str();
    assert!(version.is_some_and(|version| version.starts_with("3.1")), "{version:?}");
    for path in [
        "/api/v1/agents",
        "/api/v1/agents/{agent}/invocations",
        "/api/v1/invocations/{id}/steps",
        "/api/v1/dead-letters",
        "/api/messaging/channels/{channel_id}/messages",
        "/internal/agent-runtime/test-channel",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn the_docs_load_and_refer_to_no_other_host() {
    let mesh = Mesh::shared().await;
    let page = mesh.http().try_get("/docs").await.expect("an answer");
    assert_eq!(page.status, 200, "{}", page.text);
    let parts = references(&page.text);
    assert!(!parts.is_empty(), "a page without scripts: {}", page.text);
    for reference in parts {
        let is_foreign = reference.contains("//");
        assert!(!is_foreign, "/docs needs {reference}");
        let path = match reference.strip_prefix('/') {
            Some(_) => reference.clone(),
            None => format!("/docs/{}", reference.trim_start_matches("./")),
        };
        let part = mesh.http().try_get(&path).await.expect("an answer");
        assert_eq!(part.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_services_of_the_mesh_answer_on_the_bus() {
    let mesh = Mesh::shared().await;
    let client = mesh.nats().await;
    let mut missing = vec!["registry", "execution", "messaging", "memory", "inference"];
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    client.publish_with_reply("$SRV.PING", inbox, "".into()).await.unwrap();
    while !missing.is_empty() {
        let answer = tokio::time::timeout(
            std::time::Duration::from_secs(10),
            futures::StreamExt::next(&mut answers),
        );
        let answer = answer.await.unwrap_or_else(|_| panic!("no answer of {missing:?}"));
        let answer: Value = serde_json::from_slice(&answer.expect("a message").payload).unwrap();
        missing.retain(|name| answer["name"] != *name);
    }
}

/// Values of `src` and `href`.
fn references(html: &str) -> Vec<String> {
    let of = |name: &'static str| {
        html.split(&format!("{name}=\""))
            .skip(1)
            .filter_map(|rest| rest.split('"').next().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let mut all = of("src");
    all.extend(of("href"));
    all.retain(|reference| !reference.starts_with("data:"));
    all
}
