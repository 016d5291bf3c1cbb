//! Posted messages, and what a node that is not there answers.

use std::time::{Duration, Instant};

use gateway::TunnelConfig;
use mesh_types::NodeId;
use mesh_types::fleet::NodeMode;
use serde_json::{Value, json};

use super::client::Socket;
use super::node::{FakeNode, Opens};
use super::stage::{Stage, open_to_all, tunnel_path};
use crate::support::{json_of, problem};

#[tokio::test]
async fn a_post_opens_a_tunnel_and_the_next_one_continues_it() {
    let stage = Stage::start(open_to_all(TunnelConfig::default())).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    let path = tunnel_path(&node, "messages");
    let sent = stage
        .post(&path, &json!({"kind": "silence", "body": {}, "unknown": 1}))
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 202);
    let first = json_of(sent).await;
    assert!(first["id"].as_str().unwrap().starts_with("exc_"), "{first}");
    let waited = format!("{path}?wait=10");
    let body = json!({"id": "q1", "kind": "echo", "body": {"text": "hi"}});
    let ended = stage.post(&waited, &body).send().await.unwrap();
    assert_eq!(ended.status(), 200);
    let expected = json!({"tunnel": first["tunnel"], "id": "q1", "done": true,
        "text": "Hello from the node", "body": {"text": "hi"}});
    assert_eq!(json_of(ended).await, expected);
    assert_eq!(fake.heard("open").len(), 1);
    // An id that has ended may be used again; one that is open may not.
    assert_eq!(stage.post(&waited, &body).send().await.unwrap().status(), 200);
    let silent = json!({"tunnel": first["tunnel"], "id": first["id"], "kind": "echo"});
    let refused = problem(stage.post(&path, &silent).send().await.unwrap()).await;
    assert_eq!(
        (&refused["type"], &refused["status"]),
        (&json!("gateway/exchange-exists"), &json!(409))
    );
    // A wait that is over before the exchange says so; a failure is the node's.
    let brief = stage
        .post(&format!("{path}?wait=1"), &json!({"kind": "silence"}))
        .send()
        .await
        .unwrap();
    assert_eq!(brief.status(), 202);
    let failed = problem(stage.post(&waited, &json!({"kind": "fail"})).send().await.unwrap()).await;
    assert_eq!(
        (&failed["type"], &failed["status"]),
        (&json!("execution/paused"), &json!(409))
    );
    let closed = problem(stage.post(&waited, &json!({"kind": "close"})).send().await.unwrap()).await;
    assert_eq!(
        (&closed["type"], &closed["status"]),
        (&json!("gateway/tunnel-closed"), &json!(503))
    );
    assert!(
        closed["detail"].as_str().unwrap().contains("leaves private mode"),
        "{closed}"
    );
    // The closed one is not continued.
    let fresh = json_of(stage.post(&waited, &body).send().await.unwrap()).await;
    assert_ne!(fresh["tunnel"], first["tunnel"]);
    let status = json_of(stage.get(&tunnel_path(&node, "status")).send().await.unwrap()).await;
    assert_eq!((&status["node"], &status["open"]), (&json!("online"), &json!(true)));
    assert_eq!(status["tunnels"][0]["tunnel"], fresh["tunnel"]);
    assert_eq!(status["tunnels"][0]["road"], "messages");
}

#[tokio::test]
async fn bad_messages_are_refused_by_name() {
    let stage = Stage::start(open_to_all(TunnelConfig::default())).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    let path = tunnel_path(&node, "messages");
    for (body, field) in [
        (json!({"body": 1}), None),
        (json!({"kind": "a b"}), Some("kind")),
        (json!({"kind": "echo", "id": 7}), Some("id")),
        (
            json!({"kind": "echo", "tunnel": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"}),
            Some("tunnel"),
        ),
    ] {
        let refused = problem(stage.post(&path, &body).send().await.unwrap()).await;
        assert_eq!(
            (&refused["status"], refused["field"].as_str()),
            (&json!(400), field),
            "{body}"
        );
    }
    assert!(fake.heard("open").is_empty(), "nothing is opened for a bad message");
    let large = json!({"kind": "echo", "body": "x".repeat(mesh_api::tunnel::FRAME_BYTES_MAX)});
    assert_eq!(stage.post(&path, &large).send().await.unwrap().status(), 413);
    let unknown = json!({"kind": "echo", "tunnel": "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    let missing = problem(stage.post(&path, &unknown).send().await.unwrap()).await;
    assert_eq!(missing["type"], "gateway/tunnel-not-found");
    let nobody = "nowhere".parse().unwrap();
    let missing = problem(
        stage
            .post(&tunnel_path(&nobody, "messages"), &json!({"kind": "echo"}))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(missing["type"], "registry/node-not-found");
}

#[tokio::test]
async fn a_node_that_is_gone_deaf_or_full_is_told_apart() {
    let deadline = TunnelConfig {
        open_timeout_ms: 1_500,
        ..TunnelConfig::default()
    };
    let stage = Stage::start(open_to_all(deadline)).await;
    let answer = |node: NodeId| {
        let posted = stage
            .post(&tunnel_path(&node, "messages?wait=5"), &json!({"kind": "echo"}))
            .send();
        async move { problem(posted.await.unwrap()).await }
    };
    let deaf = stage.declare("deaf", "dev", NodeMode::Private);
    let fake = FakeNode::start(&stage, &deaf, Opens::Deaf).await;
    let started = Instant::now();
    let said = answer(deaf.clone()).await;
    assert_eq!(
        (&said["type"], &said["status"]),
        (&json!("gateway/node-silent"), &json!(504))
    );
    assert!(started.elapsed() >= Duration::from_millis(1_500));
    // It is told that nobody waits any more.
    mesh_testkit::wait_until(Duration::from_secs(30), || async { fake.heard("close").len() == 1 }).await;
    stage.known.alive.lock().unwrap().remove(&deaf);
    let said = answer(deaf).await;
    assert_eq!(
        (&said["type"], &said["status"]),
        (&json!("gateway/node-offline"), &json!(503))
    );
    let full = stage.declare("full", "dev", NodeMode::Private);
    FakeNode::start(&stage, &full, Opens::Refuses).await;
    let said = answer(full.clone()).await;
    assert_eq!(
        (&said["type"], &said["status"]),
        (&json!("gateway/tunnel-closed"), &json!(503))
    );
    assert!(said["detail"].as_str().unwrap().contains("32 tunnels"), "{said}");
    let status: Value = json_of(stage.get(&tunnel_path(&full, "status")).send().await.unwrap()).await;
    assert_eq!((&status["open"], &status["tunnels"]), (&json!(false), &json!([])));
}

#[tokio::test]
async fn no_more_tunnels_than_the_limits_say() {
    let few = TunnelConfig {
        per_node_max: 2,
        tunnels_max: 3,
        ..TunnelConfig::default()
    };
    let stage = Stage::start(open_to_all(few)).await;
    let (a, b) = (
        stage.declare("a", "dev", NodeMode::Private),
        stage.declare("b", "dev", NodeMode::Private),
    );
    for node in [&a, &b] {
        FakeNode::start(&stage, node, Opens::Yes).await;
    }
    let first = stage.socket(&a).await;
    let _second = stage.socket(&a).await;
    let refused = stage.socket_at(&tunnel_path(&a, "ws"), &[]).await.err().unwrap();
    assert_eq!((refused.0, &refused.1["type"]), (503, &json!("mesh/busy")));
    let _third = stage.socket(&b).await;
    assert_eq!(stage.socket_at(&tunnel_path(&b, "ws"), &[]).await.err().unwrap().0, 503);
    // A place that is given back is taken.
    let mut first = first;
    first.0.close(None).await.unwrap();
    let fourth = opens_at_last(&stage, &b).await;
    // Whose connection broke, and who does not resume it, does not stand in his own way.
    drop(fourth);
    opens_at_last(&stage, &b).await;
}

/// As soon as there is room; what was closed is seen a moment later.
async fn opens_at_last(stage: &Stage, node: &NodeId) -> Socket {
    let path = tunnel_path(node, "ws");
    let opens = async {
        loop {
            if let Ok(socket) = stage.socket_at(&path, &[]).await {
                return socket;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opens)
        .await
        .expect("there is room in time")
}
