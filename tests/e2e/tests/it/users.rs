//! A whole mesh of separate processes, each with a NATS user of its own and only its subjects, as `mesh setup` makes
//! them: everything works, and the server's log has no refused subject.

mod archive;
mod installation;

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::harness::{Http, items, unique, until};
use installation::{Installation, made};

const TOPICS: &str = "invocations,agents,nodes,passes,memories,knowledge,channels,services,models,audit,dead-letters";
const ANSWER: Duration = Duration::from_secs(30);

/// Everything live, as server-sent events, until its reader is dropped.
#[expect(clippy::disallowed_methods, reason = "ends with the test")]
fn listen(http: &Http) -> tokio::task::JoinHandle<()> {
    let http = http.clone();
    let (path, heard) = (format!("/api/v1/events?topics={TOPICS}"), std::sync::Arc::clone(&HEARD));
    tokio::spawn(async move {
        let mut response = http.request(reqwest::Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        while let Ok(Some(piece)) = response.chunk().await {
            heard.lock().unwrap().push_str(&String::from_utf8_lossy(&piece));
        }
    })
}

static HEARD: std::sync::LazyLock<std::sync::Arc<std::sync::Mutex<String>>> =
    std::sync::LazyLock::new(std::sync::Arc::default);

#[tokio::test]
async fn a_mesh_whose_services_have_only_their_own_subjects_does_everything() {
    let mesh = Installation::start().await;
    let http = mesh.http.clone();
    let http = &http;
    until(90, "the gateway is healthy", || async {
        http.try_get("/health").await.filter(|health| health.status == 200)
    })
    .await;
    let listener = listen(http);
    let marker = unique("said");
    let ended = mesh
        .completed("sofia", json!({"channel_id": marker, "text": marker}))
        .await;
    assert_eq!(http.replies(&marker).await.len(), 1);
    over_nats(&mesh).await;
    on_the_node(&mesh).await;
    looks(http, ended["id"].as_str().unwrap()).await;
    // What the server held in memory and every subscription is made anew.
    let mut mesh = mesh;
    mesh.nats.restart().unwrap();
    let marker = unique("after");
    mesh.completed("sofia", json!({"channel_id": marker, "text": marker}))
        .await;
    over_nats(&mesh).await;
    for topic in [
        "invocations",
        "nodes",
        "agents",
        "channels",
        "memories",
        "models",
        "audit",
        "passes",
    ] {
        let word = format!("\"topic\":\"{topic}\"");
        until(30, &format!("a push of {topic}"), || async {
            HEARD.lock().unwrap().contains(&word).then_some(())
        })
        .await;
    }
    listener.abort();
    archive::copied_and_brought_back(&mut mesh).await;
    let refused = mesh.refused();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The commands of the README: durable, waiting, streaming, and a body that nobody can read.
async fn over_nats(mesh: &Installation) {
    let client = mesh.client().await;
    let mut facts = client.subscribe("mesh.event.default.>").await.unwrap();
    let mut journal = client.subscribe("mesh.journal.default.>").await.unwrap();
    let mut tokens = client.subscribe("mesh.token.default.>").await.unwrap();
    client.flush().await.unwrap();
    let body = || json!({"payload": {"text": unique("nats")}}).to_string().into();
    let accepted = client.request("mesh.invoke.default.sofia", body()).await.unwrap();
    let accepted: Value = serde_json::from_slice(&accepted.payload).unwrap();
    assert_eq!(accepted["stream"], "INVOCATIONS", "{accepted}");
    let router = json!({"agent_id": "agent:sofia", "payload": {"text": unique("router")}}).to_string();
    client.request("router.invoke.agent", router.into()).await.unwrap();
    let called = tokio::time::timeout(ANSWER, client.request("mesh.call.default.sofia", body())).await;
    let called: Value = serde_json::from_slice(&called.unwrap().unwrap().payload).unwrap();
    assert_eq!(called["state"], "completed", "{called}");
    let inbox = client.new_inbox();
    let mut pieces = client.subscribe(inbox.clone()).await.unwrap();
    let streamed = json!({"payload": {"text": unique("stream")}, "stream": true}).to_string();
    let asked = client
        .publish_with_reply("mesh.call.default.sofia", inbox, streamed.into())
        .await;
    asked.unwrap();
    let mut count = 0;
    while let Some(piece) = tokio::time::timeout(ANSWER, pieces.next()).await.unwrap() {
        if piece.payload.is_empty() {
            break;
        }
        count += 1;
    }
    assert!(count >= 2, "{count} pieces: tokens and the result");
    for heard in [&mut facts, &mut journal, &mut tokens] {
        let first = tokio::time::timeout(ANSWER, heard.next()).await;
        assert!(first.is_ok_and(|one| one.is_some()));
    }
    let wrong = unique("wrong");
    #[expect(clippy::disallowed_methods, reason = "as `nats pub` does")]
    client
        .publish("mesh.invoke.default.sofia", wrong.clone().into())
        .await
        .unwrap();
    client.flush().await.unwrap();
    let letter = until(30, "a dead letter", || async {
        let letters = items(&mesh.http.get("/api/v1/dead-letters").await);
        letters.into_iter().find(|letter| letter.to_string().contains(&wrong))
    })
    .await;
    let id = letter["id"].as_str().unwrap();
    let discarded = mesh
        .http
        .post(&format!("/api/v1/dead-letters/{id}/discard"), &json!({}))
        .await;
    assert!(discarded.status < 300, "{}", discarded.text);
}

async fn on_the_node(mesh: &Installation) {
    let name = unique("agent");
    let spec = json!({"model": {"name": "gpt-4"}, "placement": {"replicas": 1}});
    let agent = json!({"metadata": {"name": name}, "spec": spec});
    mesh.http.post("/api/v1/agents", &agent).await.expect(201);
    mesh.http
        .post(&format!("/api/v1/agents/{name}/publish"), &json!({}))
        .await
        .expect(200);
    let marker = unique("placed");
    let ended = mesh
        .completed(&name, json!({"channel_id": marker, "text": marker}))
        .await;
    assert_eq!(mesh.model.calls(&marker).len(), 1, "{ended}");
    assert_eq!(mesh.http.replies(&marker).await.len(), 1);
    let drained = mesh.http.post("/api/v1/nodes/kitchen/drain", &json!({})).await;
    assert!(drained.status < 300, "{}", drained.text);
}

/// Every page of the UI asks something of another service.
async fn looks(http: &Http, invocation: &str) {
    assert!(!http.steps(invocation).await.is_empty());
    let fork = json!({"from_step": 1, "edit": {"instructions": "Be brief."}});
    let forked = http
        .post(&format!("/api/v1/invocations/{invocation}/fork"), &fork)
        .await;
    assert!(forked.status < 300, "{}", forked.text);
    let forked = forked.body["invocation"]["id"].as_str().or(forked.body["id"].as_str());
    let ended = http.until_ended(forked.expect("a fork has an id")).await;
    assert_eq!(ended["state"], "completed", "{ended}");
    let request = http.request(
        reqwest::Method::GET,
        &format!("/api/v1/invocations/{invocation}/events"),
    );
    let events = request.timeout(ANSWER).send().await.unwrap().text().await.unwrap();
    assert!(events.contains("step.recorded"), "{events}");
    for path in [
        "/api/v1/agents",
        "/api/v1/agents/sofia/versions",
        "/api/v1/invocations",
        "/api/v1/invocations/counts",
        "/api/v1/approvals",
        "/api/v1/nodes",
        "/api/v1/nodes/kitchen",
        "/api/v1/services",
        "/api/v1/brain/state",
        "/api/v1/passes",
        "/api/v1/users",
        "/api/v1/keys",
        "/api/v1/audit",
        "/v1/models",
    ] {
        http.get(path).await;
    }
    let key = json!({"owner": "bot", "name": "of a test", "role": "viewer"});
    http.post("/api/v1/keys", &key).await.expect(201);
    let plan = http.post("/api/v1/plan", &json!({})).await;
    assert!(plan.status < 300, "{}", plan.text);
    let found = json!({"agent": "sofia", "query": "said", "k": 3});
    http.post("/api/v1/memories/search", &found).await.expect(200);
    for what in ["pause", "resume"] {
        let done = http.post(&format!("/api/v1/agents/sofia/{what}"), &json!({})).await;
        assert!(done.status < 300, "{}", done.text);
    }
}
