//! The node's end of tunnels on a real nats-server; the test speaks for the gateway.

use std::sync::atomic::Ordering;

use mesh_testkit::{TestNats, wait_until};
use mesh_types::fleet::NodeMode;
use serde_json::{Value, json};

use super::*;
use crate::local::Access;
use crate::local::testing::{FakeNode, FakeOpenAi, WORDS, context, models, own_endpoint};
use crate::models::{InferenceConfig, Provider};

const DEADLINE: Duration = Duration::from_secs(10);

struct World {
    _nats: TestNats,
    node: Arc<FakeNode>,
    fake: FakeOpenAi,
    /// Of the node.
    context: Context,
    gateway: Context,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::start_with(Rhythm::default()).await
    }

    async fn start_with(rhythm: Rhythm) -> Self {
        let nats = TestNats::start().await;
        let (context, gateway) = (context(Some(nats.url())).await, context(Some(nats.url())).await);
        assert!(context.bus.wait_connected(DEADLINE).await && gateway.bus.wait_connected(DEADLINE).await);
        let (fake, url) = FakeOpenAi::start(&context).await;
        let folder = tempfile::tempdir().unwrap();
        let config = InferenceConfig {
            provider: Provider::Local,
            ..own_endpoint(&url)
        };
        let models = models(&config, folder.path(), Arc::default());
        let node = FakeNode::new(Access::Development);
        let settings: Arc<dyn Settings> = node.clone();
        let chat = Arc::new(Chat::new(models.clone(), settings.clone()));
        let tunnels = Tunnels::new(settings, models, chat, &context).with_rhythm(rhythm);
        tunnels.start().await.unwrap();
        Self {
            _nats: nats,
            node,
            fake,
            context,
            gateway,
            _folder: folder,
        }
    }

    async fn open(&self, tunnel: &str, owner: bool) -> End {
        let mut end = self.end(tunnel).await;
        let actor = "user:ann".to_owned();
        end.say(Frame::Open { actor, owner }).await;
        end
    }

    /// The gateway's end, before anything is said.
    async fn end(&self, tunnel: &str) -> End {
        let subject = Subject::NodeService {
            node: self.node.node_id(),
            service: "gateway".parse().unwrap(),
            endpoint: tunnel.parse().unwrap(),
        };
        End {
            frames: self.gateway.bus.subscribe(&Filter::Only(subject)).await.unwrap(),
            bus: self.gateway.bus.clone(),
            node: self.node.node_id(),
            tunnel: tunnel.parse().unwrap(),
            seq: 0,
            heard: 0,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

struct End {
    frames: Subscription,
    bus: Bus,
    node: NodeId,
    tunnel: Token,
    seq: u64,
    heard: u64,
}

impl End {
    async fn say(&mut self, frame: Frame) {
        self.seq += 1;
        self.say_at(self.seq, frame).await;
    }

    async fn say_at(&self, seq: u64, frame: Frame) {
        let sealed = Sealed {
            tunnel: self.tunnel.clone(),
            seq,
            frame,
        };
        let node = self.node.clone();
        let payload = serde_json::to_vec(&sealed).unwrap();
        self.bus
            .publish(&Subject::Tunnel { node }, payload.into())
            .await
            .unwrap();
    }

    async fn ask(&mut self, id: &str, kind: &str, body: Value) {
        let (id, kind) = (id.to_owned(), kind.to_owned());
        self.say(Frame::Message { id, kind, body }).await;
    }

    /// The next frame but pings; each must be in its place.
    async fn next(&mut self) -> Frame {
        loop {
            match self.next_sealed().await.frame {
                Frame::Ping => {}
                frame => return frame,
            }
        }
    }

    async fn next_sealed(&mut self) -> Sealed {
        let message = tokio::time::timeout(DEADLINE, self.frames.next())
            .await
            .expect("a frame comes")
            .unwrap();
        let sealed: Sealed = serde_json::from_slice(&message.payload).unwrap();
        if sealed.seq != SEQ_LAST {
            self.heard += 1;
            assert_eq!(sealed.seq, self.heard);
        }
        sealed
    }

    async fn opened(mut self) -> Self {
        assert_eq!(self.next().await, Frame::Opened { incarnation: 7 });
        self
    }

    async fn done(&mut self) -> Value {
        match self.next().await {
            Frame::Done { body, .. } => body,
            other => panic!("{other:?}"),
        }
    }

    async fn failed(&mut self) -> mesh_types::Problem {
        match self.next().await {
            Frame::Failed { problem, .. } => problem,
            other => panic!("{other:?}"),
        }
    }

    async fn closed(&mut self) -> String {
        match self.next().await {
            Frame::Close { reason } => reason,
            other => panic!("{other:?}"),
        }
    }
}

fn hello() -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}], "model": "qwen3"})
}

#[tokio::test]
async fn a_chat_streams_its_tokens_and_then_the_end() {
    let world = World::start().await;
    let mut end = world.open("tun_1", true).await.opened().await;
    end.ask("a", "chat", hello()).await;
    let mut text = String::new();
    for word in WORDS {
        // The next word is made only when this one has come.
        world.fake.words.add_permits(1);
        match end.next().await {
            Frame::Token { id, text: piece } => {
                assert_eq!((id.as_str(), piece.as_str()), ("a", word));
                text.push_str(&piece);
            }
            other => panic!("{other:?}"),
        }
    }
    let done = end.done().await;
    assert_eq!((&done["text"], &done["provider"]), (&json!(text), &json!("local")));
}

#[tokio::test]
async fn status_and_configuration_go_beside_a_chat_that_waits() {
    let world = World::start().await;
    let mut end = world.open("tun_1", true).await.opened().await;
    end.ask("a", "chat", hello()).await;
    end.ask("b", "status", Value::Null).await;
    let status = end.done().await;
    assert_eq!((&status["node_id"], &status["slots"]), (&json!("kitchen"), &json!(4)));
    assert_eq!(status["replicas"].as_array().unwrap().len(), 2);
    end.ask(
        "c",
        "configuration",
        json!({"node_uid": "other", "billable_account_uid": "acc"}),
    )
    .await;
    let changed = end.done().await;
    assert_eq!(
        (&changed["node_uid"], &changed["billable_account_uid"]),
        (&json!("kitchen"), &json!("acc"))
    );
    end.ask("d", "configuration", Value::Null).await;
    assert_eq!(end.done().await["billable_account_uid"], "acc");
    end.ask("e", "dance", Value::Null).await;
    assert_eq!(end.failed().await.field.as_deref(), Some("kind"));
    end.ask("f", "chat", json!({"messages": []})).await;
    assert!(end.failed().await.is(mesh_types::Code::InvalidRequest));
    end.say(Frame::Close {
        reason: "enough".to_owned(),
    })
    .await;
    // The model is not asked any more.
    wait_until(DEADLINE, || async { world.fake.open.load(Ordering::Relaxed) == 0 }).await;
}

#[tokio::test]
async fn a_guest_may_chat_in_shared_mode_and_change_nothing() {
    let world = World::start().await;
    world.node.set_mode(NodeMode::Shared);
    let mut end = world.open("tun_1", false).await.opened().await;
    end.ask("a", "configuration", json!({"mode": "private"})).await;
    assert!(end.failed().await.is(mesh_types::Code::Forbidden));
    end.ask("b", "configuration", json!({})).await;
    let seen = end.done().await;
    assert_eq!(seen["mode"], "shared");
    assert!(seen.get("billable_account_uid").is_none() && seen.get("sharing").is_none());
    end.ask("s", "status", Value::Null).await;
    assert_eq!(
        end.done().await["replicas"],
        json!([]),
        "what others run here is the owner's to see"
    );
    world.fake.words.add_permits(1);
    end.ask("c", "chat", hello()).await;
    assert!(matches!(end.next().await, Frame::Token { .. }));
    world.node.set_mode(NodeMode::Private);
    world.fake.words.add_permits(1);
    assert!(end.failed().await.is(mesh_types::Code::NodeNotPrivate));
}

#[tokio::test]
async fn a_repeated_frame_changes_nothing_and_a_gap_ends_the_tunnel() {
    let world = World::start().await;
    let mut end = world.open("tun_1", true).await.opened().await;
    end.say_at(
        1,
        Frame::Open {
            actor: "user:eve".to_owned(),
            owner: false,
        },
    )
    .await;
    end.ask("a", "configuration", json!({"billable_account_uid": "first"}))
        .await;
    assert_eq!(end.done().await["billable_account_uid"], "first");
    let repeated = json!({"billable_account_uid": "repeated"});
    end.say_at(
        2,
        Frame::Message {
            id: "a".to_owned(),
            kind: "configuration".to_owned(),
            body: repeated,
        },
    )
    .await;
    end.ask("b", "configuration", Value::Null).await;
    assert_eq!(end.done().await["billable_account_uid"], "first");
    end.seq += 1;
    end.ask("c", "status", Value::Null).await;
    assert!(end.closed().await.contains("lost"));
    // It is not known any more, and says so beyond every place.
    end.say(Frame::Ping).await;
    let last = end.next_sealed().await;
    assert_eq!(last.seq, SEQ_LAST);
}

#[tokio::test]
async fn a_silent_gateway_is_left_and_one_that_pings_is_not() {
    let world = World::start_with(Rhythm {
        ping: Duration::from_millis(50),
        silence: Duration::from_millis(600),
        life: Duration::from_secs(60),
    })
    .await;
    let mut silent = world.open("tun_1", true).await.opened().await;
    let mut pinging = world.open("tun_2", true).await.opened().await;
    let mut pings = 0;
    let reason = loop {
        pinging.say(Frame::Ping).await;
        match silent.next_sealed().await.frame {
            Frame::Ping => pings += 1,
            Frame::Close { reason } => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(reason.contains("heard nothing") && pings > 3, "{reason} after {pings}");
    pinging.ask("a", "status", Value::Null).await;
    assert_eq!(pinging.done().await["name"], "Kitchen");
}

#[tokio::test]
async fn a_tunnel_lives_its_time_and_a_stopping_node_says_goodbye() {
    let world = World::start_with(Rhythm {
        life: Duration::from_millis(300),
        ..Rhythm::default()
    })
    .await;
    let mut old = world.open("tun_1", true).await.opened().await;
    assert!(old.closed().await.contains("lived"));
    let mut last = world.open("tun_2", true).await.opened().await;
    world.context.shutdown.cancel();
    assert!(last.closed().await.contains("stops"));
}

#[tokio::test]
async fn tunnels_and_exchanges_are_bounded() {
    let world = World::start().await;
    let mut first = world.open("tun_0", true).await.opened().await;
    for number in 0..8 {
        first.ask(&format!("x{number}"), "chat", hello()).await;
    }
    first.ask("x8", "status", Value::Null).await;
    assert!(first.failed().await.is(mesh_types::Code::Busy));
    let mut open = Vec::new();
    for number in 1..TUNNELS_MAX {
        open.push(world.open(&format!("tun_{number}"), true).await.opened().await);
    }
    let mut one_more = world.open("tun_more", true).await;
    assert!(one_more.closed().await.contains("32 tunnels"));
    let mut left = open.pop().unwrap();
    left.say(Frame::Close { reason: String::new() }).await;
    // There is room again as soon as that has ended.
    wait_until(DEADLINE, || async {
        let mut end = world.open("tun_late", true).await;
        matches!(end.next().await, Frame::Opened { .. })
    })
    .await;
}
