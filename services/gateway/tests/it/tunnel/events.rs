//! The event stream of a tunnel: resumed anywhere, every frame once.

use std::time::Duration;

use eventsource_stream::Event;
use futures::StreamExt;
use gateway::TunnelConfig;
use mesh_types::fleet::NodeMode;
use serde_json::{Value, json};

use super::client::text_of;
use super::node::{FakeNode, Opens};
use super::stage::{Stage, open_to_all, tunnel_path};
use crate::support::{json_of, problem};

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

async fn next(events: &mut (impl futures::Stream<Item = Event> + Unpin)) -> Event {
    tokio::time::timeout(Duration::from_secs(30), events.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

#[tokio::test]
async fn a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let stage = Stage::start(open_to_all(TunnelConfig::default())).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    FakeNode::start(&stage, &node, Opens::Yes).await;
    let mut events = stage.events(&node, "", None).await;
    let opened = next(&mut events).await;
    let tunnel = data(&opened)["tunnel"].as_str().unwrap().to_owned();
    assert_eq!(
        (opened.event.as_str(), opened.id.clone()),
        ("opened", format!("{tunnel}:1"))
    );
    let counting = json!({"tunnel": tunnel, "id": "n", "kind": "count", "body": {"to": 400}});
    let sent = stage
        .post(&tunnel_path(&node, "messages"), &counting)
        .send()
        .await
        .unwrap();
    assert_eq!(json_of(sent).await["tunnel"], tunnel.as_str());
    let mut told = vec![opened];
    let mut some = 3;
    while told.last().unwrap().event != "done" {
        let last = told.last().unwrap().id.clone();
        let mut events = stage.events(&node, "", Some(&last)).await;
        some = some * 3 % 101 + 1;
        for _ in 0..some {
            told.push(next(&mut events).await);
            if told.last().unwrap().event == "done" {
                break;
            }
        }
    }
    for (place, event) in told.iter().enumerate() {
        assert_eq!(event.id, format!("{tunnel}:{}", place + 1));
        assert_eq!(data(event)["seq"], place + 1);
    }
    let frames: Vec<Value> = told.iter().map(data).collect();
    let expected: String = (0..400).map(|number| format!("{number} ")).collect();
    assert_eq!(text_of(&frames), expected);
    // The other way to say the place, and the same from the beginning.
    let query = format!("?after={tunnel}:400");
    assert_eq!(
        next(&mut stage.events(&node, &query, None).await).await.id,
        format!("{tunnel}:401")
    );
    let query = format!("?tunnel={tunnel}");
    assert_eq!(
        next(&mut stage.events(&node, &query, None).await).await.id,
        format!("{tunnel}:1")
    );
}

#[tokio::test]
async fn the_end_is_told_and_then_there_is_nothing_more() {
    let stage = Stage::start(open_to_all(TunnelConfig::default())).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    FakeNode::start(&stage, &node, Opens::Yes).await;
    let mut events = stage.events(&node, "", None).await;
    let tunnel = data(&next(&mut events).await)["tunnel"].clone();
    let closing = json!({"tunnel": tunnel, "kind": "close"});
    stage
        .post(&tunnel_path(&node, "messages"), &closing)
        .send()
        .await
        .unwrap();
    let last = next(&mut events).await;
    assert_eq!(last.event, "close");
    assert!(events.next().await.is_none(), "the stream ends");
    let again = stage
        .get(&tunnel_path(&node, "events"))
        .header("last-event-id", &last.id);
    assert_eq!(again.send().await.unwrap().status(), 204);
    for (id, status) in [
        ("x", 400),
        ("tun_01ARZ3NDEKTSV4RRFFQ69G5FAV", 400),
        ("tun_01ARZ3NDEKTSV4RRFFQ69G5FAV:1", 404),
        (&format!("{}:99", tunnel.as_str().unwrap()), 400),
    ] {
        let asked = stage.get(&tunnel_path(&node, "events")).header("last-event-id", id);
        assert_eq!(problem(asked.send().await.unwrap()).await["status"], status, "{id}");
    }
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told_as_lost() {
    let few = TunnelConfig {
        kept_frames_max: 10,
        ..TunnelConfig::default()
    };
    let stage = Stage::start(open_to_all(few)).await;
    let node = stage.declare("kitchen", "dev", NodeMode::Private);
    FakeNode::start(&stage, &node, Opens::Yes).await;
    let counting = json!({"kind": "count", "body": {"to": 50}});
    let sent = stage
        .post(&tunnel_path(&node, "messages"), &counting)
        .send()
        .await
        .unwrap();
    let tunnel = json_of(sent).await["tunnel"].as_str().unwrap().to_owned();
    let path = tunnel_path(&node, "status");
    let is_done = || async { json_of(stage.get(&path).send().await.unwrap()).await["tunnels"][0]["seq"] == 52 };
    mesh_testkit::wait_until(Duration::from_secs(30), is_done).await;
    let mut events = stage.events(&node, "", Some(&format!("{tunnel}:3"))).await;
    let reset = next(&mut events).await;
    assert_eq!(
        (reset.event.as_str(), reset.id.clone()),
        ("reset", format!("{tunnel}:42"))
    );
    assert_eq!(data(&reset)["lost_up_to"], 42);
    for number in 43..=52 {
        assert_eq!(next(&mut events).await.id, format!("{tunnel}:{number}"));
    }
}
