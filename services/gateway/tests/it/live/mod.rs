//! Live pushes over a WebSocket and as server-sent events: order, resume, loss, reset, visibility, slowness, ends.

mod back;
mod client;
mod cut;
mod ends;
mod ground;
mod rights;

use futures::SinkExt;
use gateway::Config;
use mesh_bus::ServiceHandle;
use mesh_types::Tenant;
use mesh_types::event::Fact;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::made::at;
use crate::support::Edge;
use client::Client;
use ground::{Fate, Ground, id_of};

struct Stage {
    edge: Edge,
    ground: Ground,
    _feed: ServiceHandle,
}

impl Stage {
    async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    async fn start_with(config: Config) -> Self {
        let edge = Edge::start_with(config).await;
        edge.bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
        let (ground, feed) = Ground::start(&edge.bus).await;
        Self {
            edge,
            ground,
            _feed: feed,
        }
    }
}

fn ours() -> Tenant {
    Tenant::default()
}

fn ids(pushes: &[Value]) -> Vec<String> {
    pushes.iter().map(id_of).collect()
}

fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_is_committed_and_what_happens_is_pushed_to_who_subscribed() {
    let stage = Stage::start().await;
    let (mut both, before) = Client::caught_up(stage.edge.address, &["invocations", "agents"], None).await;
    let (mut agents, _) = Client::caught_up(stage.edge.address, &["agents"], None).await;
    assert_eq!(before, Vec::<Value>::new());

    let committed = stage.ground.committed(3, &ours(), 3).await;
    let pushes = both.take(3).await;
    assert_eq!(ids(&pushes), texts(&committed), "in order of the commit");
    let first = &pushes[0];
    assert_eq!(
        (&first["topic"], &first["event"]),
        (&json!("invocations"), &json!("invocation.queued"))
    );
    let data = &first["data"];
    assert_eq!(
        (&data["agent"], &data["version"], &data["state"]),
        (&json!("sofia"), &json!(1), &json!("queued"))
    );
    assert_eq!((&data["seq"], &data["at"]), (&json!(1), &json!(at())));
    assert_eq!(pushes[1]["event"], "invocation.running");

    let created = stage.ground.agent_created(&ours(), "clara").await;
    for client in [&mut both, &mut agents] {
        let push = client.next().await;
        assert_eq!(
            (&push["topic"], &push["event"]),
            (&json!("agents"), &json!("agent.created"))
        );
        assert_eq!(
            (id_of(&push), &push["data"]["agent"]),
            (created.to_string(), &json!("clara"))
        );
    }
    // A message is told in the list of channels and in its channel.
    let (mut channel, _) = Client::caught_up(stage.edge.address, &["channel:general", "channels"], None).await;
    let posted = Fact::MessagePosted {
        channel: "general".parse().unwrap(),
        message: "msg_1".parse().unwrap(),
    };
    stage.ground.event(&ours(), "user:ann", posted).await;
    let told = channel.take(2).await;
    let topics: Vec<&Value> = told.iter().map(|push| &push["topic"]).collect();
    assert_eq!(topics, ["channels", "channel:general"]);
    assert_ne!(told[0]["cursor"], told[1]["cursor"], "a cut between the two loses none");
}

#[tokio::test]
async fn other_tenants_are_not_told() {
    let stage = Stage::start().await;
    let (mut client, _) = Client::caught_up(stage.edge.address, &["invocations", "agents"], None).await;
    let theirs: Tenant = "other".parse().unwrap();
    stage.ground.committed(0, &theirs, 2).await;
    stage.ground.agent_created(&theirs, "clara").await;
    let mine = stage.ground.committed(0, &ours(), 1).await;
    assert_eq!(ids(&client.take(1).await), texts(&mine));
}

#[tokio::test]
async fn a_resume_at_any_push_loses_nothing_and_repeats_nothing() {
    let stage = Stage::start().await;
    let topics = ["invocations", "agents", "channels", "channel:general"];
    let (mut first, _) = Client::caught_up(stage.edge.address, &topics, None).await;
    let start = first.cursor.clone().unwrap();
    for shard in [1, 2, 1, 7] {
        stage.ground.committed(shard, &ours(), 2).await;
        stage.ground.agent_created(&ours(), "clara").await;
        let posted = Fact::MessagePosted {
            channel: "general".parse().unwrap(),
            message: "msg_1".parse().unwrap(),
        };
        stage.ground.event(&ours(), "user:ann", posted).await;
    }
    let all = first.take(20).await;
    let sorted = |pushes: &[Value]| {
        let mut texts: Vec<String> = pushes
            .iter()
            .map(|push| format!("{} {}", push["topic"], push["data"]))
            .collect();
        texts.sort();
        texts
    };
    let check = |address| {
        let (all, start) = (all.clone(), start.clone());
        async move {
            for cut in 0..=all.len() {
                let after = match cut {
                    0 => start.as_str(),
                    cut => all[cut - 1]["cursor"].as_str().unwrap(),
                };
                let (_, told) = Client::caught_up(address, &topics, Some(after)).await;
                assert_eq!(sorted(&told), sorted(&all[cut..]), "after {cut}");
                let cut_again = told.len() / 2;
                if let Some(last) = told.get(cut_again) {
                    let after = last["cursor"].as_str().unwrap();
                    let (_, rest) = Client::caught_up(address, &topics, Some(after)).await;
                    assert_eq!(sorted(&rest), sorted(&told[cut_again + 1..]), "after {cut} and again");
                }
            }
        }
    };
    check(stage.edge.address).await;
    // A process that has nothing of it at hand reads it from the feed and EVENTS.
    let other = cut::Another::start(&stage.edge.bus, Config::default()).await;
    check(other.address).await;
    other.stop().await;
}

#[tokio::test]
async fn what_the_journal_loses_comes_from_the_feed_and_repeats_are_dropped() {
    let stage = Stage::start().await;
    let (mut client, _) = Client::caught_up(stage.edge.address, &["invocations"], None).await;
    let mut all = texts(&stage.ground.commit(4, &ours(), 3));
    stage
        .ground
        .relay(4, |place| if place == 1 { Fate::Lost } else { Fate::Repeated })
        .await;
    all.extend(texts(&stage.ground.committed(4, &ours(), 1).await));
    assert_eq!(ids(&client.take(4).await), all);
    // Nothing at all is heard of this one: the look finds it.
    let silent = texts(&stage.ground.commit(5, &ours(), 2));
    stage.ground.relay(5, |_| Fate::Lost).await;
    assert_eq!(ids(&client.take(2).await), silent);
    // A broken connection.
    stage.edge.restart_nats().await;
    let after = texts(&stage.ground.committed(4, &ours(), 2).await);
    assert_eq!(ids(&client.take(2).await), after);
}

#[tokio::test]
async fn a_cursor_that_cannot_be_continued_is_reset() {
    let stage = Stage::start().await;
    let (mut client, _) = Client::caught_up(stage.edge.address, &["invocations"], None).await;
    let old = client.cursor.clone().unwrap();
    for _ in 0..3 {
        stage.ground.committed(2, &ours(), 1).await;
    }
    client.take(3).await;
    stage.ground.expire(3);
    let other = cut::Another::start(&stage.edge.bus, Config::default()).await;
    let (mut reset, told) = Client::caught_up(other.address, &["invocations"], Some(&old)).await;
    assert_eq!(told[0]["reset"], json!({"reason": "expired"}));
    // What it does not follow is nothing that it lacks.
    let (_, told) = Client::caught_up(other.address, &["agents"], Some(&old)).await;
    assert_eq!(told, Vec::<Value>::new());

    stage.ground.another_feed();
    let push = reset.next().await;
    assert_eq!(
        push["reset"],
        json!({"reason": "another_feed"}),
        "also while it is open"
    );
    let fresh = stage.ground.committed(2, &ours(), 1).await;
    assert_eq!(ids(&reset.take(1).await), texts(&fresh));
    let (_, told) = Client::caught_up(other.address, &["invocations"], Some(&old)).await;
    assert_eq!(told[0]["reset"], json!({"reason": "another_feed"}));
    other.stop().await;
}

#[tokio::test]
async fn topics_come_and_go_and_what_is_wrong_is_said() {
    let stage = Stage::start().await;
    let mut client = Client::open(stage.edge.address).await;
    client.say(&json!({"subscribe": ["nonsense"]})).await;
    assert_eq!(client.next().await["error"]["status"], 400, "and it may try again");
    client.say(&json!({"subscribe": ["agents"]})).await;
    assert_eq!(client.next().await["live"], true);
    client.say(&json!({"subscribe": ["x".repeat(200)]})).await;
    assert_eq!(client.next().await["error"]["status"], 400);
    client
        .say(&json!({"subscribe": ["invocations", "channel:general"], "unsubscribe": ["agents"]}))
        .await;
    // The answer says that it is done, and from where on.
    let done = client.next().await;
    assert_eq!(done["subscribed"], json!(["invocations", "channel:general"]));
    assert!(done["cursor"].is_string(), "{done}");
    client.say(&json!({"wrong": 1})).await;
    assert_eq!(client.next().await["error"]["status"], 400);
    stage.ground.agent_created(&ours(), "clara").await;
    let mine = stage.ground.committed(1, &ours(), 1).await;
    assert_eq!(ids(&client.take(1).await), texts(&mine));
    client.socket.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(client.end().await, Some(1003));

    let page = Client::try_open(stage.edge.address, "", &[("origin", "http://evil.example")]).await;
    assert!(matches!(page, Err(tokio_tungstenite::tungstenite::Error::Http(answer)) if answer.status() == 403));
}

#[tokio::test]
async fn one_invocation_is_told_with_its_steps_and_resumed_inside() {
    let stage = Stage::start().await;
    let all = crate::facts::journal();
    stage.edge.commit(&all);
    let topic = format!("invocation:{}", crate::made::the_invocation());
    let topics = [topic.as_str(), "agents"];
    let (mut client, mut told) = Client::caught_up(stage.edge.address, &topics, None).await;
    while told.len() < 7 {
        told.push(client.next().await);
    }
    told.retain(|message| message["live"] != true);
    let names: Vec<&str> = told.iter().filter_map(|push| push["event"].as_str()).collect();
    assert_eq!(names[3], "step.recorded");
    assert_eq!(names.last(), Some(&"invocation.completed"));
    // The other topic goes on from each cursor as well.
    let mut created = Vec::new();
    for cut in 1..told.len() {
        created.push(stage.ground.agent_created(&ours(), "clara").await);
        let after = told[cut - 1]["cursor"].as_str().unwrap();
        let mut resumed = Client::subscribed(stage.edge.address, &topics, Some(after)).await;
        let rest = resumed.take(told.len() - cut + created.len()).await;
        let (agents, inside): (Vec<Value>, Vec<Value>) = rest.into_iter().partition(|push| push["topic"] == "agents");
        let shown = |push: &Value| (push["event"].clone(), push["data"].clone());
        assert_eq!(
            inside.iter().map(shown).collect::<Vec<_>>(),
            told[cut..].iter().map(shown).collect::<Vec<_>>()
        );
        assert_eq!(ids(&agents), texts(&created), "after {cut}");
    }
    let none = format!("invocation:{}", "inv_0000000000000000000000009Z");
    client.say(&json!({"subscribe": [none]})).await;
    let answer = loop {
        let message = client.next().await;
        if message["error"].is_object() {
            break message;
        }
    };
    assert_eq!(
        (&answer["error"]["status"], &answer["topic"], &answer["retry"]),
        (&json!(404), &json!(none), &json!(false))
    );
}

#[tokio::test]
async fn a_tenant_with_its_share_of_connections_waits_while_another_is_served() {
    let live = gateway::LiveConfig {
        clients_max: 2,
        ..gateway::LiveConfig::default()
    };
    let guarded = crate::guarded::Guarded::start(Config {
        live,
        ..Config::default()
    })
    .await;
    let (_ground, _feed) = Ground::start(&guarded.edge.bus).await;
    let open = async |key: &str| {
        let events = guarded.get(key, "/api/v1/events?topics=agents").send().await;
        events.unwrap()
    };
    let held = open("greedy_ann").await;
    assert_eq!(held.status(), 200);
    assert_eq!(open("greedy_bob").await.status(), 429);
    let other = open("other_cid").await;
    assert_eq!(other.status(), 200);
    drop((held, other));
}

#[tokio::test]
async fn the_cursor_of_a_subscription_repeats_and_loses_nothing() {
    let stage = Stage::start().await;
    let (mut client, _) = Client::caught_up(stage.edge.address, &["agents"], None).await;
    for number in 0..3 {
        stage.ground.agent_created(&ours(), &format!("agent{number}")).await;
    }
    client.take(3).await;
    client.say(&json!({"subscribe": ["invocations"]})).await;
    let done = client.next().await;
    assert_eq!(done["subscribed"], json!(["invocations"]));
    let created = stage.ground.agent_created(&ours(), "last").await;
    let committed = stage.ground.committed(1, &ours(), 1).await;
    let after = done["cursor"].as_str();
    let (_, told) = Client::caught_up(stage.edge.address, &["agents", "invocations"], after).await;
    let mut expected = texts(&committed);
    expected.push(created.to_string());
    let mut told = ids(&told);
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_invocation_that_cannot_be_opened_now_may_be_asked_for_again() {
    let stage = Stage::start_with(Config {
        streams_max: 1,
        ..Config::default()
    })
    .await;
    stage.edge.commit(&crate::facts::journal()[..2]);
    let held = stage.edge.follow(None).await;
    let (mut client, _) = Client::caught_up(stage.edge.address, &["agents"], None).await;
    let topic = format!("invocation:{}", crate::made::the_invocation());
    client.say(&json!({"subscribe": [topic]})).await;
    assert_eq!(client.next().await["subscribed"], json!([topic]));
    let refused = client.next().await;
    assert_eq!((&refused["topic"], &refused["retry"]), (&json!(topic), &json!(true)));
    assert_eq!(refused["error"]["type"], "mesh/busy");
    drop(held);
    let mut told = refused;
    while told["event"] != "invocation.queued" {
        client.say(&json!({"subscribe": [topic]})).await;
        told = client.next().await;
    }
    assert_eq!(told["topic"], json!(topic));
}

#[tokio::test]
async fn what_expires_while_a_reader_is_between_two_pages_is_not_passed_over() {
    let stage = Stage::start().await;
    let (first, _) = Client::caught_up(stage.edge.address, &["audit"], None).await;
    // More than all buffers between the two ends hold.
    for number in 0..400 {
        let noted = Fact::AuditNoted {
            action: format!("{number}"),
            subject: "kitchen".into(),
            outcome: "done".into(),
            reason: "x".repeat(100_000),
        };
        stage.ground.event(&ours(), "user:ann", noted).await;
    }
    let other = cut::Another::start(&stage.edge.bus, Config::default()).await;
    let mut late = Client::subscribed(other.address, &["audit"], first.cursor.as_deref()).await;
    assert_eq!(late.next().await["data"]["action"], "0");
    stage.edge.purge("EVENTS").await;
    let mut told = 1;
    let reset = loop {
        let message = late.next().await;
        if message["topic"].is_string() {
            assert_eq!(message["data"]["action"], format!("{told}"), "nothing is left out");
            told += 1;
        } else {
            break message;
        }
    };
    assert_eq!(reset["reset"], json!({"reason": "expired"}));
    assert!(told < 400, "{told}");
    other.stop().await;
}
