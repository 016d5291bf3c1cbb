//! NATS over WebSocket through the gateway: the client is the one that nodes use, the server a real one.

use std::time::Duration;

use async_nats::ConnectOptions;
use futures::StreamExt;
use gateway::{Config, NatsProxyConfig, TunnelConfig};
use mesh_types::Subject;
use mesh_types::subject::Filter;
use serde_json::json;

use crate::support::problem;
use crate::tunnel::client::Socket;
use crate::tunnel::stage::{Stage, open_to_all};

const PATH: &str = "/api/runtimes/v1/nats";

fn through(nats: NatsProxyConfig) -> Config {
    Config {
        nats,
        ..open_to_all(TunnelConfig::default())
    }
}

async fn client(stage: &Stage) -> async_nats::Client {
    let url = format!("ws://{}{PATH}", stage.address);
    let pause = |_| Duration::from_millis(50);
    let options = ConnectOptions::new().reconnect_delay_callback(pause);
    options.connect(url).await.unwrap()
}

/// Publishes at the server until the client hears it: a client's flush does not wait until the server knows of its
/// subscription.
async fn until_heard(stage: &Stage, subject: &Subject, proxied: &mut async_nats::Subscriber) {
    let heard = async {
        loop {
            stage.bus.publish(subject, "ready".into()).await.unwrap();
            let next = tokio::time::timeout(Duration::from_millis(100), proxied.next());
            if let Ok(received) = next.await {
                assert_eq!(received.unwrap().payload, "ready");
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard)
        .await
        .expect("it is subscribed");
}

fn heartbeat() -> Subject {
    Subject::Heartbeat {
        node: "kitchen".parse().unwrap(),
    }
}

/// Subscribes through the gateway, publishes at the server.
#[tokio::test]
async fn messages_requests_and_a_megabyte_go_through_both_ways() {
    let stage = Stage::start(through(NatsProxyConfig::default())).await;
    let client = client(&stage).await;
    let subject = heartbeat();
    let mut direct = stage.bus.subscribe(&Filter::Only(subject.clone())).await.unwrap();
    let mut proxied = client.subscribe(subject.to_string()).await.unwrap();
    client.flush().await.unwrap();
    for size in [0, 5, 4_095, 65_536, 1_000_000, 1_048_576] {
        let payload: bytes::Bytes = (0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into();
        #[expect(clippy::disallowed_methods, reason = "what a node's bus does within")]
        client.publish(subject.to_string(), payload.clone()).await.unwrap();
        client.flush().await.unwrap();
        let received = tokio::time::timeout(Duration::from_secs(30), direct.next())
            .await
            .unwrap()
            .unwrap();
        assert!(received.payload == payload, "{size} bytes to the server");
        let received = tokio::time::timeout(Duration::from_secs(30), proxied.next())
            .await
            .unwrap()
            .unwrap();
        assert!(received.payload == payload, "{size} bytes back");
    }
    // A service of the mesh, asked through the gateway.
    let asked = json!({"viewer": {}, "node_id": "nowhere"}).to_string();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Mesh-Tenant", "default");
    headers.insert("Mesh-Actor", "dev");
    let answer = client.request_with_headers("mesh.svc.registry.node-get", headers, asked.into());
    let answer = answer.await.unwrap();
    assert!(
        String::from_utf8_lossy(&answer.payload).contains("node-not-found"),
        "{answer:?}"
    );
}

/// As `mesh node` connects where NATS itself cannot be reached.
#[tokio::test]
async fn the_bus_of_a_node_goes_through() {
    let stage = Stage::start(through(NatsProxyConfig::default())).await;
    let options = mesh_bus::BusOptions {
        url: format!("ws://{}{PATH}", stage.address),
        name: "kitchen".into(),
        monitor_url: None,
        user: None,
    };
    let bus = mesh_bus::Bus::connect_now(options, None).await.unwrap();
    let mut direct = stage.bus.subscribe(&Filter::Only(heartbeat())).await.unwrap();
    for _ in 0..3 {
        bus.publish(&heartbeat(), "alive".into()).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(30), direct.next()).await;
        assert_eq!(heard.unwrap().unwrap().payload, "alive");
        let known = mesh_api::fleet::NodeGetRequest {
            viewer: mesh_api::fleet::Viewer::default(),
            node_id: "nowhere".parse().unwrap(),
        };
        let caller = mesh_api::Caller::service("test", mesh_types::Tenant::default());
        let asked = bus.call::<mesh_api::fleet::NodeGet>(&caller, &known).await;
        assert!(asked.unwrap_err().is(mesh_types::Code::NodeNotFound));
        stage.nats.restart().await;
        let both = futures::future::join(
            stage.bus.wait_connected(Duration::from_secs(20)),
            bus.wait_connected(Duration::from_secs(20)),
        );
        assert_eq!(both.await, (true, true));
        // Until both have noticed that there was a restart.
        let is_through = || async { stage.bus.flush().await.is_ok() && bus.flush().await.is_ok() };
        mesh_testkit::wait_until(Duration::from_secs(30), is_through).await;
    }
}

#[tokio::test]
async fn many_messages_keep_their_order() {
    let stage = Stage::start(through(NatsProxyConfig::default())).await;
    let client = client(&stage).await;
    let subject = heartbeat();
    let mut proxied = client.subscribe(subject.to_string()).await.unwrap();
    until_heard(&stage, &subject, &mut proxied).await;
    for number in 0..20_000_u32 {
        stage
            .bus
            .publish(&subject, number.to_be_bytes().to_vec().into())
            .await
            .unwrap();
    }
    let mut number = 0_u32;
    while number < 20_000 {
        let received = tokio::time::timeout(Duration::from_secs(30), proxied.next())
            .await
            .unwrap()
            .unwrap();
        if received.payload != "ready" {
            assert_eq!(received.payload[..], number.to_be_bytes());
            number += 1;
        }
    }
}

#[tokio::test]
async fn a_client_finds_its_way_back_after_a_restart_of_the_server() {
    let stage = Stage::start(through(NatsProxyConfig::default())).await;
    let client = client(&stage).await;
    let subject = heartbeat();
    let mut proxied = client.subscribe(subject.to_string()).await.unwrap();
    client.flush().await.unwrap();
    stage.nats.stop().await;
    let refused = stage
        .get(PATH)
        .header("connection", "upgrade")
        .header("upgrade", "websocket");
    let refused = refused
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let refused = problem(refused.send().await.unwrap()).await;
    assert_eq!(
        (&refused["status"], &refused["type"]),
        (&json!(503), &json!("mesh/unavailable"))
    );
    stage.nats.restart().await;
    assert!(stage.bus.wait_connected(Duration::from_secs(20)).await);
    let is_back = || async { client.connection_state() == async_nats::connection::State::Connected };
    mesh_testkit::wait_until(Duration::from_secs(30), is_back).await;
    until_heard(&stage, &subject, &mut proxied).await;
}

#[tokio::test]
async fn whoever_comes_through_is_asked_by_the_server() {
    let config = Config {
        require_credentials: true,
        ..through(NatsProxyConfig::default())
    };
    let stage = Stage::start_guarded(config).await;
    let url = format!("ws://{}{PATH}", stage.address);
    // Where NATS asks itself, a proxy in front of the gateway may bring others; a page may not.
    assert!(stage.socket_at(PATH, &[("x-forwarded-for", "10.0.0.7")]).await.is_ok());
    let page = stage.socket_at(PATH, &[("origin", "http://localhost")]).await;
    assert_eq!(page.err().unwrap().0, 403);
    for options in [
        ConnectOptions::new(),
        ConnectOptions::new().user_and_password("kitchen".into(), "wrong".into()),
        ConnectOptions::new().user_and_password("mesh".into(), "".into()),
    ] {
        let refused = options.connect(&url).await.unwrap_err();
        assert_eq!(
            refused.kind(),
            async_nats::ConnectErrorKind::AuthorizationViolation,
            "{refused}"
        );
    }
    let node = ConnectOptions::new().user_and_password("kitchen".into(), "mns_kitchen".into());
    let node = node.custom_inbox_prefix("_INBOX.kitchen").connect(&url).await.unwrap();
    let tunnel = |node: &str| Subject::NodeService {
        node: node.parse().unwrap(),
        service: "gateway".parse().unwrap(),
        endpoint: "tun_1".parse().unwrap(),
    };
    let mut own = stage.bus.subscribe(&Filter::Only(tunnel("kitchen"))).await.unwrap();
    let mut others = stage.bus.subscribe(&Filter::Only(tunnel("cellar"))).await.unwrap();
    for place in ["cellar", "kitchen"] {
        #[expect(clippy::disallowed_methods, reason = "what a node's bus does within")]
        node.publish(tunnel(place).to_string(), place.into()).await.unwrap();
    }
    let heard = tokio::time::timeout(Duration::from_secs(30), own.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard.payload, "kitchen");
    // What it may not publish was sent before, and is not there.
    stage.bus.flush().await.unwrap();
    assert!(futures::FutureExt::now_or_never(others.next()).is_none());
}

#[tokio::test]
async fn pages_and_proxies_are_kept_out_and_connections_are_few() {
    let one = NatsProxyConfig {
        connections_max: 1,
        ..NatsProxyConfig::default()
    };
    let stage = Stage::start(through(one)).await;
    let own = format!("http://{}", stage.address);
    for (name, value) in [
        ("origin", own.as_str()),
        ("x-forwarded-for", "10.0.0.7"),
        ("forwarded", "for=10.0.0.7"),
    ] {
        let (status, body) = stage.socket_at(PATH, &[(name, value)]).await.err().unwrap();
        assert_eq!((status, &body["type"]), (403, &json!("identity/forbidden")), "{name}");
    }
    let first = stage.socket_at(PATH, &[]).await.unwrap();
    assert_eq!(stage.socket_at(PATH, &[]).await.err().unwrap().0, 503);
    drop(first);
    let fits = || async { stage.socket_at(PATH, &[]).await.is_ok() };
    mesh_testkit::wait_until(Duration::from_secs(30), fits).await;
}

/// Code of the close frame; a NATS client would take one for its protocol, so that most come without.
async fn last_words(socket: &mut Socket) -> Option<u16> {
    loop {
        if let Err(frame) = socket.next().await {
            return frame.map(|frame| frame.code.into());
        }
    }
}

#[tokio::test]
async fn a_silent_connection_and_one_that_sends_too_much_are_closed() {
    let brief = NatsProxyConfig {
        idle_seconds: 1,
        message_bytes_max: 64 * 1024,
        ..NatsProxyConfig::default()
    };
    let stage = Stage::start(through(brief)).await;
    let mut idle = stage.socket_at(PATH, &[]).await.unwrap();
    assert_eq!(last_words(&mut idle).await, None);
    let mut texting = stage.socket_at(PATH, &[]).await.unwrap();
    texting.say(&json!({})).await;
    assert_eq!(last_words(&mut texting).await, Some(1003));
    let mut large = stage.socket_at(PATH, &[]).await.unwrap();
    use futures::SinkExt;
    let message = tokio_tungstenite::tungstenite::Message::binary(vec![b' '; 64 * 1024 + 1]);
    // The server may close before all of it is sent.
    let _ = large.0.send(message).await;
    let ended = async { while large.next().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .expect("it is closed");
}

#[tokio::test]
async fn a_shutdown_closes_what_goes_through() {
    let mut stage = Stage::start(through(NatsProxyConfig::default())).await;
    let mut socket = stage.socket_at(PATH, &[]).await.unwrap();
    stage.context.shutdown.cancel();
    assert_eq!(last_words(&mut socket).await, None);
    let served = tokio::time::timeout(Duration::from_secs(30), &mut stage.served).await;
    served.expect("serve returns").unwrap().unwrap();
    let drained = stage.context.tasks.drain(Duration::from_secs(5)).await;
    assert_eq!(drained, mesh_runtime::tasks::Drained::Clean);
}
