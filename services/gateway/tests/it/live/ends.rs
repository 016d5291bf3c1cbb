//! The same as server-sent events; who is too slow; what a shutdown says; who sees nodes.

use std::time::Duration;

use eventsource_stream::Eventsource;
use futures::StreamExt;
use gateway::{Config, LiveConfig};
use mesh_api::Caller;
use mesh_api::fleet::{NodeConfiguration, NodeEntry, NodeGet, NodeGetRequest};
use mesh_types::event::Fact;
use mesh_types::fleet::NodeMode;
use mesh_types::{NodeId, Tenant};
use serde_json::{Value, json};

use super::client::Client;
use super::{Stage, cut, ids, ours, texts};
use crate::made::at;
use crate::support::problem;

#[tokio::test]
async fn server_sent_events_tell_the_same_and_go_on_from_the_last_id() {
    let stage = Stage::start().await;
    let path = "/api/v1/events?topics=invocations,agents";
    let response = stage.edge.get(path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream().eventsource().map(Result::unwrap);
    let live = stream.next().await.unwrap();
    assert_eq!(live.event, "live");
    let committed = stage.ground.committed(3, &ours(), 2).await;
    stage.ground.agent_created(&ours(), "clara").await;
    let events: Vec<_> = stream.by_ref().take(3).collect().await;
    let pushes: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect();
    for (event, push) in events.iter().zip(&pushes) {
        assert_eq!(
            (&push["event"], &push["cursor"]),
            (&json!(event.event), &json!(event.id))
        );
    }
    assert!(texts(&committed).iter().all(|id| ids(&pushes).contains(id)));
    let resumed = stage
        .edge
        .get(path)
        .header("last-event-id", &events[0].id)
        .send()
        .await
        .unwrap();
    let rest: Vec<_> = resumed
        .bytes_stream()
        .eventsource()
        .map(Result::unwrap)
        .take(3)
        .collect()
        .await;
    let data = |event: &eventsource_stream::Event| {
        let push: Value = serde_json::from_str(&event.data).unwrap();
        push["data"].clone()
    };
    assert_eq!(
        rest[..2].iter().map(data).collect::<Vec<_>>(),
        events[1..].iter().map(data).collect::<Vec<_>>()
    );
    assert_eq!(rest[2].event, "live");
    for wrong in [
        "/api/v1/events",
        "/api/v1/events?topics=x",
        "/api/v1/events?topics=agents&after=x",
    ] {
        assert_eq!(
            problem(stage.edge.get(wrong).send().await.unwrap()).await["status"],
            400,
            "{wrong}"
        );
    }
}

/// What `/metrics` says of open connections of that kind; `None`: nothing yet.
async fn open_of(stage: &Stage, kind: &str) -> Option<u64> {
    let text = stage.edge.get("/metrics").send().await.unwrap().text().await.unwrap();
    let label = format!("kind=\"{kind}\"");
    let mut lines = text.lines().filter(|line| line.starts_with("mesh_live_connections{"));
    let line = lines.find(|line| line.contains(&label))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn open_connections_are_counted_by_what_they_speak() {
    let stage = Stage::start().await;
    let (first, _) = Client::caught_up(stage.edge.address, &["agents"], None).await;
    let (second, _) = Client::caught_up(stage.edge.address, &["agents"], None).await;
    assert_eq!(open_of(&stage, "websocket").await, Some(2));
    let events = stage.edge.get("/api/v1/events?topics=agents").send().await.unwrap();
    assert_eq!(open_of(&stage, "events").await, Some(1));
    drop((first, second, events));
    let are_gone =
        || async { (open_of(&stage, "websocket").await, open_of(&stage, "events").await) == (Some(0), Some(0)) };
    mesh_testkit::wait_until(Duration::from_secs(30), are_gone).await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_nobody_else_notices() {
    let live = LiveConfig {
        behind_max: 16,
        // More than one of them: what the quick one has read may not be counted as sent yet.
        behind_bytes_max: 1_000_000,
        ..LiveConfig::default()
    };
    let stage = Stage::start_with(Config {
        live,
        ..Config::default()
    })
    .await;
    let (mut slow, _) = Client::caught_up(stage.edge.address, &["audit"], None).await;
    let (mut quick, _) = Client::caught_up(stage.edge.address, &["audit"], None).await;
    let large = "x".repeat(100_000);
    let count = 300;
    for number in 0..count {
        let noted = Fact::AuditNoted {
            action: format!("{number}"),
            subject: "kitchen".into(),
            outcome: "done".into(),
            reason: large.clone(),
        };
        stage.ground.event(&ours(), "user:ann", noted).await;
        let push = quick.next().await;
        assert_eq!(push["data"]["action"], format!("{number}"), "in time and in order");
    }
    // It reads again only now: what it had room for, then the end.
    let open = stage.edge.context.tasks.clone();
    let is_cut = || async { open.names().iter().filter(|name| **name == "live-socket").count() == 1 };
    mesh_testkit::wait_until(Duration::from_secs(30), is_cut).await;
    let mut told = 0;
    while let Ok(push) = slow.step().await {
        assert_eq!(push["data"]["action"], format!("{told}"));
        told += 1;
    }
    assert!(told < count, "{told}");
    let (mut back, rest) = Client::caught_up(stage.edge.address, &["audit"], slow.cursor.as_deref()).await;
    assert_eq!(rest.len(), count - told, "nothing is lost by it");
    drop(back.socket.close(None).await);
}

#[tokio::test]
async fn a_shutdown_says_so_and_the_cursor_goes_on_elsewhere() {
    let stage = Stage::start().await;
    let other = cut::Another::start(&stage.edge.bus, Config::default()).await;
    let (mut client, _) = Client::caught_up(other.address, &["invocations"], None).await;
    stage.ground.committed(1, &ours(), 1).await;
    client.take(1).await;
    let (ended, ()) = tokio::join!(client.end(), other.stop());
    assert_eq!(ended, Some(1012));
    let missed = stage.ground.committed(1, &ours(), 2).await;
    let (_, told) = Client::caught_up(stage.edge.address, &["invocations"], client.cursor.as_deref()).await;
    assert_eq!(ids(&told), texts(&missed));
}

#[tokio::test]
async fn nodes_are_told_to_those_who_see_them() {
    let stage = Stage::start().await;
    let entry = |node: NodeId, tenant: &str, mode| NodeEntry {
        node_id: node,
        tenant: tenant.parse().unwrap(),
        owner: "bob".into(),
        name: "n".into(),
        configuration: NodeConfiguration {
            mode,
            sharing: mesh_types::fleet::Sharing {
                tenants: vec![ours()],
                ..Default::default()
            },
            ..NodeConfiguration::default()
        },
        labels: Default::default(),
        capabilities: Vec::new(),
        slots: 1,
        drained: false,
        registered_at: at(),
        updated_at: at(),
    };
    let _registry = stage
        .edge
        .bus
        .service("registry", "0.1.0")
        .endpoint::<NodeGet, _, _>(move |_: Caller, request: NodeGetRequest| {
            let mode = if request.node_id.as_str() == "private" {
                NodeMode::Private
            } else {
                NodeMode::Shared
            };
            let found = entry(request.node_id, "other", mode);
            async move { Ok(found) }
        })
        .start()
        .await
        .unwrap();
    let (mut client, _) = Client::caught_up(stage.edge.address, &["nodes"], None).await;
    let theirs: Tenant = "other".parse().unwrap();
    for name in ["private", "shared"] {
        let came = Fact::NodeCame {
            node: name.parse().unwrap(),
            incarnation: 1,
        };
        stage.ground.event(&theirs, "node:x", came).await;
    }
    let push = client.next().await;
    assert_eq!(
        (&push["event"], &push["data"]["node"]),
        (&json!("node.came"), &json!("shared"))
    );
}
