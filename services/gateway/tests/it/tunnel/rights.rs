//! Who may speak to a node, through every route, at the opening and later.

use std::time::Duration;

use gateway::TunnelConfig;
use mesh_api::tunnel::Frame;
use mesh_types::NodeId;
use mesh_types::fleet::{NodeMode, Sharing};
use serde_json::{Value, json};

use super::node::{FakeNode, Opens};
use super::stage::{Stage, signed_in, tunnel_path};
use crate::support::{json_of, problem};

const KEY: &str = "x-service-api-key";

async fn stage() -> Stage {
    Stage::start(signed_in(TunnelConfig::default())).await
}

impl Stage {
    /// Status and type of every tunnel route for the holder of a key.
    async fn all_routes(&self, node: &NodeId, key: &str, query: &str) -> Vec<(u16, Value)> {
        let mut said = Vec::new();
        let socket = self
            .socket_at(&tunnel_path(node, &format!("ws{query}")), &[(KEY, key)])
            .await;
        let refused = socket.err().unwrap_or((101, Value::Null));
        said.push((refused.0, refused.1["type"].clone()));
        let mut message = json!({"kind": "echo"});
        if let Some(tunnel) = query.strip_prefix("?tunnel=") {
            message["tunnel"] = json!(tunnel);
        }
        let posted = self.post(&tunnel_path(node, "messages"), &message).header(KEY, key);
        let events = self.get(&tunnel_path(node, &format!("events{query}"))).header(KEY, key);
        for request in [posted, events] {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let kind = if status < 400 {
                Value::Null
            } else {
                problem(response).await["type"].clone()
            };
            said.push((status, kind));
        }
        said
    }

    async fn sees_status(&self, node: &NodeId, key: &str) -> u16 {
        let asked = self.get(&tunnel_path(node, "status")).header(KEY, key);
        asked.send().await.unwrap().status().as_u16()
    }
}

#[tokio::test]
async fn a_node_of_another_owner_does_not_exist_unless_it_is_shared_with_him() {
    let stage = stage().await;
    let not_found = || vec![(404, json!("registry/node-not-found")); 3];
    let welcome = || vec![(101, Value::Null), (202, Value::Null), (200, Value::Null)];
    for (name, mode) in [("private", NodeMode::Private), ("asleep", NodeMode::Sleep)] {
        let node = stage.declare(name, "ann", mode);
        let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
        assert_eq!(stage.all_routes(&node, "mak_bob", "").await, not_found(), "{name}");
        assert_eq!(stage.sees_status(&node, "mak_bob").await, 404);
        assert!(fake.heard.lock().unwrap().is_empty(), "the node hears nothing of it");
        let noted = ("user:bob".to_owned(), "tunnel.open".to_owned(), name.to_owned());
        assert_eq!(stage.refusals().iter().filter(|one| **one == noted).count(), 4);
        assert_eq!(stage.all_routes(&node, "mak_ann", "").await, welcome(), "{name}");
    }
    let node = stage.declare("shared", "ann", NodeMode::Shared);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    let sharing = Sharing {
        users: vec!["bob".into()],
        ..Sharing::default()
    };
    stage.change(&node, NodeMode::Shared, sharing).await;
    assert_eq!(stage.all_routes(&node, "mak_bob", "").await, welcome());
    assert_eq!(stage.all_routes(&node, "mak_eve", "").await, not_found());
    let opens = fake.heard("open");
    assert_eq!(opens.len(), 3);
    assert!(opens.iter().all(|open| open.frame
        == Frame::Open {
            actor: "user:bob".into(),
            owner: false
        }));
    // Who has no key, or one that is none, does not get as far.
    assert_eq!(
        stage.get(&tunnel_path(&node, "status")).send().await.unwrap().status(),
        401
    );
    assert_eq!(stage.sees_status(&node, "stolen").await, 401);
}

#[tokio::test]
async fn a_stolen_tunnel_id_opens_nothing_and_is_noted() {
    let stage = stage().await;
    let node = stage.declare("shared", "ann", NodeMode::Shared);
    let other = stage.declare("other", "ann", NodeMode::Shared);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    FakeNode::start(&stage, &other, Opens::Yes).await;
    let path = tunnel_path(&node, "messages?wait=5");
    let sent = stage.post(&path, &json!({"kind": "echo"})).header(KEY, "mak_ann");
    let tunnel = json_of(sent.send().await.unwrap()).await["tunnel"]
        .as_str()
        .unwrap()
        .to_owned();
    let query = format!("?tunnel={tunnel}");
    let missing = vec![(404, json!("gateway/tunnel-not-found")); 3];
    // Bob may speak to the node, but not through ann's tunnel; ann not to another node through it.
    assert_eq!(stage.all_routes(&node, "mak_bob", &query).await, missing);
    assert_eq!(stage.all_routes(&other, "mak_ann", &query).await, missing);
    let noted = ("user:bob".to_owned(), "tunnel.use".to_owned(), tunnel.clone());
    assert_eq!(stage.refusals().iter().filter(|one| **one == noted).count(), 3);
    let seen = json_of(
        stage
            .get(&tunnel_path(&node, "status"))
            .header(KEY, "mak_bob")
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(seen["tunnels"], json!([]), "nor does he see it");
    assert_eq!(fake.heard("message").len(), 1);
}

#[tokio::test]
async fn what_another_node_says_is_not_this_nodes() {
    let stage = stage().await;
    let node = stage.declare("kitchen", "ann", NodeMode::Private);
    let evil = stage.declare("evil", "eve", NodeMode::Private);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    let forger = FakeNode::start(&stage, &evil, Opens::Yes).await;
    let mut socket = stage
        .socket_at(&tunnel_path(&node, "ws"), &[(KEY, "mak_ann")])
        .await
        .unwrap();
    let opened = socket.next().await.unwrap();
    let tunnel = opened["tunnel"].as_str().unwrap().parse().unwrap();
    let forged = |seq| {
        (
            seq,
            Frame::Token {
                id: "a".into(),
                text: "forged".into(),
            },
        )
    };
    for seq in 1..6 {
        let (seq, frame) = forged(seq);
        forger.publish(&tunnel, seq, frame).await;
    }
    forger.bus.flush().await.unwrap();
    // Nor does a frame of another tunnel's name count, wherever it was sent.
    let name = "tun_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let inner = mesh_api::tunnel::Sealed {
        tunnel: name,
        seq: 2,
        frame: forged(2).1,
    };
    let subject = mesh_types::Subject::NodeService {
        node: node.clone(),
        service: "gateway".parse().unwrap(),
        endpoint: tunnel,
    };
    fake.bus
        .publish(&subject, serde_json::to_vec(&inner).unwrap().into())
        .await
        .unwrap();
    socket.say(&json!({"id": "a", "kind": "echo"})).await;
    let frames = socket.until("done").await;
    assert_eq!(super::client::text_of(&frames), "Hello from the node");
}

#[tokio::test]
async fn a_right_that_is_gone_closes_the_tunnel_at_once() {
    let stage = stage().await;
    let node = stage.declare("shared", "ann", NodeMode::Shared);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    let path = tunnel_path(&node, "ws");
    let mut ann = stage.socket_at(&path, &[(KEY, "mak_ann")]).await.unwrap();
    let mut bob = stage.socket_at(&path, &[(KEY, "mak_bob")]).await.unwrap();
    for socket in [&mut ann, &mut bob] {
        socket.until("opened").await;
    }
    stage.change(&node, NodeMode::Private, Sharing::default()).await;
    let (_, code, reason) = bob.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "the node is not open to you any more"));
    let told = || async { fake.heard("close").len() == 1 };
    mesh_testkit::wait_until(Duration::from_secs(30), told).await;
    assert!(
        stage
            .refusals()
            .iter()
            .any(|(actor, action, _)| actor == "user:bob" && action == "tunnel.open")
    );
    ann.say(&json!({"id": "a", "kind": "echo"})).await;
    ann.until("done").await;
}

#[tokio::test]
async fn a_revoked_key_loses_its_tunnels() {
    let often = TunnelConfig {
        rights_interval_ms: 200,
        ..TunnelConfig::default()
    };
    let stage = Stage::start(signed_in(often)).await;
    let node = stage.declare("kitchen", "ann", NodeMode::Private);
    FakeNode::start(&stage, &node, Opens::Yes).await;
    let mut socket = stage
        .socket_at(&tunnel_path(&node, "ws"), &[(KEY, "mak_ann")])
        .await
        .unwrap();
    socket.until("opened").await;
    stage.known.revoked.lock().unwrap().insert("mak_ann".into());
    // A verified credential is believed for some seconds.
    let (_, code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "the node is not open to you any more"));
}
