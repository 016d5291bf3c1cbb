//! Routes kept from the replaced systems, in their shapes.

use serde_json::{Value, json};

use crate::support::{Edge, json_of, problem};

#[tokio::test]
async fn an_agent_is_run_and_its_channel_read_as_before() {
    let edge = Edge::start().await;
    let channel = "7c72d497-27aa-4e75-bb2f-4a4a21d4f91f";
    let body = json!({"agent_id": "agent:sofia", "entrypoint": "channel_message", "unknown": 1,
        "payload": {"channel_id": channel, "microdao_id": "microdao:daarion", "rewrite_prompt": null}});
    let processed = json_of(
        edge.post("/internal/agent-runtime/test-channel", &body)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(processed, json!({"status": "processed", "agent_id": "agent:sofia"}));
    let (caller, request) = edge.world.last_accepted();
    assert_eq!(
        (caller.tenant.as_str(), request.request.payload["channel_id"].as_str()),
        ("daarion", Some(channel))
    );
    assert!(request.wait_ms > 0);
    let failed = edge
        .post("/internal/agent-runtime/test-channel", &json!({"agent_id": "failing"}))
        .send()
        .await
        .unwrap();
    assert_eq!(problem(failed).await["type"], "inference/model-refused");

    let posted = edge.post(
        "/internal/agents/agent:sofia/post-to-channel",
        &json!({"channel_id": channel, "text": "hi", "x": 1}),
    );
    assert_eq!(
        posted.header("mesh-tenant", "daarion").send().await.unwrap().status(),
        201
    );
    let path = format!("/api/messaging/channels/{channel}/messages?limit=50&microdao_id=microdao:daarion&unknown=1");
    let messages = json_of(edge.get(&path).send().await.unwrap()).await;
    assert_eq!(messages[0]["author"], json!({"kind": "agent", "id": "sofia"}));
    let old_names = ["sender_id", "sender_type", "body"].map(|name| messages[0][name].as_str().unwrap().to_owned());
    assert_eq!(old_names, ["agent:sofia", "agent", "hi"]);
}

#[tokio::test]
async fn memories_and_models_are_asked_as_before() {
    let edge = Edge::start().await;
    let named = json!({"agent_id": "agent:sofia", "microdao_id": "microdao:daarion"});
    let with = |more: Value| {
        let mut all = named.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let store = with(json!({"content": {"user_message": "tea?", "agent_reply": "yes"}, "kind": "conversation"}));
    let stored = json_of(edge.post("/internal/agent-memory/store", &store).send().await.unwrap()).await;
    assert_eq!(stored["ok"], true);
    let query = with(json!({"query": "tea", "k": 5, "channel_id": null}));
    let found = json_of(edge.post("/internal/agent-memory/query", &query).send().await.unwrap()).await;
    assert_eq!((found["total"].as_u64(), &found["items"]), (Some(1), &found["results"]));
    assert_eq!(found["items"][0]["meta"]["agent_reply"], "yes");

    let prompt = json!({"model": "gpt-4", "messages": [{"role": "user", "content": "hi", "name": "x"}]});
    let answer = json_of(edge.post("/internal/llm/proxy", &prompt).send().await.unwrap()).await;
    assert_eq!(
        (answer["content"].as_str(), answer["usage"]["total_tokens"].as_u64()),
        (Some("hi there"), Some(7))
    );
}
