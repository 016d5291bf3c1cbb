//! The WebSocket of a tunnel: both ways, its limits, its ends.

use std::time::Duration;

use futures::SinkExt;
use gateway::TunnelConfig;
use mesh_types::fleet::NodeMode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::client::text_of;
use super::node::{FakeNode, Opens};
use super::stage::{Stage, open_to_all, tunnel_path};

async fn stage_with(tunnel: TunnelConfig) -> (Stage, FakeNode) {
    let stage = Stage::start(open_to_all(tunnel)).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    let fake = FakeNode::start(&stage, &node, Opens::Yes).await;
    (stage, fake)
}

async fn stage() -> (Stage, FakeNode) {
    stage_with(TunnelConfig::default()).await
}

#[tokio::test]
async fn messages_go_and_tokens_come_in_order() {
    let (stage, fake) = stage().await;
    let mut socket = stage.socket(&fake.node).await;
    let opened = socket.next().await.unwrap();
    assert_eq!((&opened["frame"], &opened["seq"]), (&json!("opened"), &json!(1)));
    let tunnel = opened["tunnel"].as_str().unwrap().to_owned();
    assert!(tunnel.starts_with("tun_"), "{opened}");
    socket
        .say(&json!({"id": "a", "kind": "echo", "body": {"text": "hi"}, "later": 1}))
        .await;
    let frames = socket.until("done").await;
    assert_eq!(text_of(&frames), "Hello from the node");
    let seqs: Vec<u64> = frames.iter().map(|frame| frame["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [2, 3, 4, 5, 6]);
    assert_eq!(frames[4]["body"], json!({"text": "hi"}));
    // The node heard who it is, and each frame with its number.
    let heard = fake.heard.lock().unwrap().clone();
    let open = serde_json::to_value(&heard[0]).unwrap();
    let expected = json!({"tunnel": tunnel, "seq": 1, "frame": "open", "actor": "dev", "owner": true});
    assert_eq!(open, expected);
    for (place, sealed) in heard.iter().enumerate() {
        assert_eq!(sealed.seq, place as u64 + 1);
    }
    // A failed exchange is the node's words; the tunnel goes on.
    socket.say(&json!({"id": "b", "kind": "fail"})).await;
    let frames = socket.until("failed").await;
    assert_eq!(frames[0]["problem"]["type"], "execution/paused");
    socket.say(&json!({"id": "c", "kind": "twice"})).await;
    assert_eq!(text_of(&socket.until("done").await), "once");
    // Whoever closes ends the tunnel, and the node is told.
    socket.0.close(None).await.unwrap();
    let told = || async { !fake.heard("close").is_empty() };
    mesh_testkit::wait_until(Duration::from_secs(30), told).await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_told_and_the_tunnel_goes_on() {
    let (stage, fake) = stage().await;
    let mut socket = stage.socket(&fake.node).await;
    socket.until("opened").await;
    let large = "x".repeat(mesh_api::tunnel::FRAME_BYTES_MAX);
    for (message, status) in [
        (json!({"id": "a"}), 400),
        (json!({"id": "a b", "kind": "echo"}), 400),
        (json!({"id": 5, "kind": "echo"}), 400),
        (json!([1, 2]), 400),
        (json!({"id": "a", "kind": "echo", "body": large}), 413),
    ] {
        socket.say(&message).await;
        let frame = socket.next().await.unwrap();
        let shown: String = message.to_string().chars().take(60).collect();
        assert_eq!(
            (&frame["frame"], &frame["problem"]["status"]),
            (&json!("failed"), &json!(status)),
            "{shown}: {frame}"
        );
    }
    socket.0.send(Message::text("{")).await.unwrap();
    assert_eq!(socket.next().await.unwrap()["problem"]["type"], "mesh/malformed-json");
    socket.say(&json!({"id": "quiet", "kind": "silence"})).await;
    socket.say(&json!({"id": "quiet", "kind": "echo"})).await;
    let again = socket.next().await.unwrap();
    assert_eq!(again["problem"]["type"], "gateway/exchange-exists");
    socket.say(&json!({"id": "a", "kind": "echo", "body": 1})).await;
    assert_eq!(text_of(&socket.until("done").await), "Hello from the node");
    socket.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(socket.closed().await.1, 1003);
}

#[tokio::test]
async fn a_lost_connection_is_resumed_without_loss_or_repetition() {
    let (stage, fake) = stage().await;
    let mut socket = stage.socket(&fake.node).await;
    let tunnel = socket.next().await.unwrap()["tunnel"].as_str().unwrap().to_owned();
    socket
        .say(&json!({"id": "a", "kind": "count", "body": {"to": 500}}))
        .await;
    let mut frames = Vec::new();
    while frames.len() < 20 {
        frames.push(socket.next().await.unwrap());
    }
    // Without a word: the TCP connection breaks.
    drop(socket);
    while frames.last().is_none_or(|frame: &Value| frame["frame"] != "done") {
        let after = frames.last().unwrap()["seq"].as_u64().unwrap();
        let path = tunnel_path(&fake.node, &format!("ws?tunnel={tunnel}&after={after}"));
        let mut socket = stage.socket_at(&path, &[]).await.unwrap();
        for _ in 0..97 {
            frames.push(socket.next().await.unwrap());
            if frames.last().is_some_and(|frame| frame["frame"] == "done") {
                break;
            }
        }
    }
    let expected: String = (0..500).map(|number| format!("{number} ")).collect();
    assert_eq!(text_of(&frames), expected);
    for (place, frame) in frames.iter().enumerate() {
        assert_eq!(frame["seq"], place + 2);
    }
    let ahead = tunnel_path(&fake.node, &format!("ws?tunnel={tunnel}&after=9999"));
    let (status, _) = stage.socket_at(&ahead, &[]).await.err().unwrap();
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_told_and_cut() {
    let patient = TunnelConfig {
        silence_ms: 60_000,
        ..TunnelConfig::default()
    };
    let (stage, fake) = stage_with(patient).await;
    let mut socket = stage.socket(&fake.node).await;
    socket.until("opened").await;
    // 32 MB, of which 1 MiB is kept and some MB are in the buffers of the connection.
    socket
        .say(&json!({"id": "a", "kind": "flood", "body": {"pieces": 512}}))
        .await;
    let path = tunnel_path(&fake.node, "status");
    let all_is_there = || async {
        let status: Value = stage.get(&path).send().await.unwrap().json().await.unwrap();
        status["tunnels"][0]["seq"] == 514
    };
    mesh_testkit::wait_until(Duration::from_secs(50), all_is_there).await;
    let (frames, code, reason) = socket.closed().await;
    assert_eq!(frames.last().unwrap()["frame"], "reset", "{reason}");
    assert_eq!((code, reason.as_str()), (1013, "the client reads too slowly"));
    assert!(frames.len() < 500, "{} frames came through", frames.len());
}

#[tokio::test]
async fn each_end_of_a_tunnel_is_told_with_its_reason() {
    let (stage, fake) = stage().await;
    for (kind, code, words) in [
        ("close", 1000, "the node leaves private mode"),
        ("restart", 1000, "the node has restarted and does not know this tunnel"),
        ("gap", 1013, "frames of the node were lost on the way"),
    ] {
        let mut socket = stage.socket(&fake.node).await;
        socket.until("opened").await;
        socket.say(&json!({"id": "a", "kind": kind})).await;
        let (frames, closed, reason) = socket.closed().await;
        assert_eq!((closed, reason.as_str()), (code, words));
        let last = frames.last().unwrap();
        assert_eq!((&last["frame"], &last["reason"]), (&json!("close"), &json!(words)));
    }
}

#[tokio::test]
async fn an_old_tunnel_is_closed() {
    let short = TunnelConfig {
        life_seconds: 2,
        ..TunnelConfig::default()
    };
    let (stage, fake) = stage_with(short).await;
    let mut socket = stage.socket(&fake.node).await;
    let (_, code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "it has lived its time; open another"));
}

#[tokio::test]
async fn a_tunnel_that_nobody_reads_and_nobody_posts_to_is_closed() {
    let short = TunnelConfig {
        idle_ms: 700,
        ..TunnelConfig::default()
    };
    let (stage, fake) = stage_with(short).await;
    let answer = stage.post(&tunnel_path(&fake.node, "messages"), &json!({"kind": "silence"}));
    assert_eq!(answer.send().await.unwrap().status(), 202);
    let path = tunnel_path(&fake.node, "status");
    let is_closed = || async {
        let status: Value = stage.get(&path).send().await.unwrap().json().await.unwrap();
        status["open"] == false
    };
    mesh_testkit::wait_until(Duration::from_secs(30), is_closed).await;
    let closed = fake.heard("close");
    assert!(
        serde_json::to_string(&closed).unwrap().contains("nobody used it"),
        "{closed:?}"
    );
}

#[tokio::test]
async fn a_tunnel_whose_node_opens_it_and_then_says_nothing_is_closed() {
    let short = TunnelConfig {
        silence_ms: 600,
        ..TunnelConfig::default()
    };
    let stage = Stage::start(open_to_all(short)).await;
    let mute = stage.declare("mute", "dev", NodeMode::Private);
    let mute = FakeNode::start(&stage, &mute, Opens::Deaf).await;
    let opening = stage.socket(&mute.node);
    let speaking = async {
        mesh_testkit::wait_until(Duration::from_secs(30), || async { !mute.heard("open").is_empty() }).await;
        let tunnel = mute.heard("open")[0].tunnel.clone();
        mute.say(&tunnel, mesh_api::tunnel::Frame::Opened { incarnation: 1 })
            .await;
    };
    let (mut socket, ()) = tokio::join!(opening, speaking);
    let (_, code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1013, "the node went silent"));
}

#[tokio::test]
async fn a_shutdown_says_so_to_both_ends() {
    let (mut stage, fake) = stage().await;
    let mut socket = stage.socket(&fake.node).await;
    socket.until("opened").await;
    stage.context.shutdown.cancel();
    let (_, code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1012, "the gateway restarts; open another"));
    let told = || async { !fake.heard("close").is_empty() };
    mesh_testkit::wait_until(Duration::from_secs(30), told).await;
    let served = tokio::time::timeout(Duration::from_secs(30), &mut stage.served).await;
    served.expect("serve returns").unwrap().unwrap();
    let drained = stage.context.tasks.drain(Duration::from_secs(5)).await;
    assert_eq!(drained, mesh_runtime::tasks::Drained::Clean);
}

#[tokio::test]
async fn only_the_own_page_may_open_one_in_a_browser() {
    let (stage, fake) = stage().await;
    let (ws, events) = (tunnel_path(&fake.node, "ws"), tunnel_path(&fake.node, "events"));
    for origin in ["https://evil.example", "null", "http://localhost:1"] {
        let (status, body) = stage.socket_at(&ws, &[("origin", origin)]).await.err().unwrap();
        assert_eq!((status, &body["type"]), (403, &json!("identity/forbidden")), "{origin}");
        let refused = stage.get(&events).header("origin", origin).send().await.unwrap();
        assert_eq!(refused.status(), 403, "{origin}");
    }
    let image = stage
        .get(&events)
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .unwrap();
    assert_eq!(image.status(), 403);
    assert!(fake.heard.lock().unwrap().is_empty());
    let own = format!("http://{}", stage.address);
    assert!(stage.socket_at(&ws, &[("origin", &own)]).await.is_ok());
    // What is no WebSocket is a problem, not a broken connection.
    let plain = stage.get(&ws).send().await.unwrap();
    assert_eq!(plain.status(), 400);
}

/// Prints what the way through the gateway adds; how fast this machine is decides nothing.
#[tokio::test]
async fn tokens_come_as_they_are_made() {
    let (stage, fake) = stage().await;
    let mut socket = stage.socket(&fake.node).await;
    socket.until("opened").await;
    socket
        .say(&json!({"id": "a", "kind": "clock", "body": {"to": 300}}))
        .await;
    let mut added = Vec::new();
    loop {
        let frame = socket.next().await.unwrap();
        if frame["frame"] == "done" {
            break;
        }
        let made: u128 = frame["text"].as_str().unwrap().parse().unwrap();
        added.push(fake.epoch.elapsed().as_nanos() - made);
    }
    added.sort_unstable();
    let of = |part: usize| added[added.len() * part / 100] / 1_000;
    println!(
        "a token takes {} µs (half of them), {} µs (99 of 100) from the node to the client",
        of(50),
        of(99)
    );
    assert_eq!(added.len(), 300);
}
