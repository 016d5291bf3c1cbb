//! A node's end of tunnels, on its own connection: answers as the kind of a message says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use mesh_api::tunnel::{Frame, Sealed};
use mesh_bus::Bus;
use mesh_types::subject::Filter;
use mesh_types::{Code, NodeId, Problem, Subject, Token};
use serde_json::{Value, json};

use super::stage::{Stage, connect};

/// What a node does with an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opens {
    Yes,
    /// It closes at once, with a reason.
    Refuses,
    /// It says nothing at all.
    Deaf,
}

#[derive(Clone)]
pub(crate) struct FakeNode {
    pub(crate) node: NodeId,
    pub(crate) bus: Bus,
    /// All that it was sent, in order.
    pub(crate) heard: Arc<Mutex<Vec<Sealed>>>,
    /// Numbers of its own frames, by tunnel.
    sent: Arc<Mutex<BTreeMap<Token, u64>>>,
    opens: Opens,
    /// What it counts time from in answers of kind `clock`.
    pub(crate) epoch: Instant,
}

impl FakeNode {
    pub(crate) async fn start(stage: &Stage, node: &NodeId, opens: Opens) -> Self {
        let bus = connect(stage.nats.url(), node.as_str()).await;
        let fake = Self {
            node: node.clone(),
            bus,
            heard: Arc::default(),
            sent: Arc::default(),
            opens,
            epoch: Instant::now(),
        };
        let subject = Subject::Tunnel { node: node.clone() };
        let mut frames = fake.bus.subscribe(&Filter::Only(subject)).await.unwrap();
        let running = fake.clone();
        let shutdown = stage.context.shutdown.clone();
        stage.context.tasks.spawn("fake-node", async move {
            loop {
                let message = tokio::select! {
                    message = frames.next() => message,
                    // It hears the gateway's farewell, too.
                    () = async { shutdown.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(1)).await } => None,
                };
                let Some(message) = message else { return };
                let sealed: Sealed = serde_json::from_slice(&message.payload).unwrap();
                running.heard.lock().unwrap().push(sealed.clone());
                running.answer(sealed).await;
            }
        });
        fake
    }

    async fn answer(&self, sealed: Sealed) {
        let tunnel = sealed.tunnel;
        match (sealed.frame, self.opens) {
            (Frame::Open { .. }, Opens::Yes) => self.say(&tunnel, Frame::Opened { incarnation: 1 }).await,
            (Frame::Open { .. }, Opens::Refuses) => {
                let reason = "32 tunnels are open here".to_owned();
                self.say(&tunnel, Frame::Close { reason }).await;
            }
            (Frame::Ping, Opens::Yes) => self.say(&tunnel, Frame::Ping).await,
            (Frame::Message { id, kind, body }, Opens::Yes) => self.exchange(&tunnel, id, &kind, body).await,
            _ => {}
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table of what is asked and what is said")]
    async fn exchange(&self, tunnel: &Token, id: String, kind: &str, body: Value) {
        match kind {
            "echo" => {
                for word in ["Hello", " from", " the", " node"] {
                    self.token(tunnel, &id, word).await;
                }
                self.say(tunnel, Frame::Done { id, body }).await;
            }
            // A model call that starts over.
            "chat" => {
                self.token(tunnel, &id, "Hel").await;
                let (kind, body) = ("reset".to_owned(), json!({}));
                let id_of_reset = id.clone();
                self.say(
                    tunnel,
                    Frame::Message {
                        id: id_of_reset,
                        kind,
                        body,
                    },
                )
                .await;
                for word in ["Hello", " again"] {
                    self.token(tunnel, &id, word).await;
                }
                let body = json!({"text": "Hello again"});
                self.say(tunnel, Frame::Done { id, body }).await;
            }
            "count" => {
                for number in 0..body["to"].as_u64().unwrap() {
                    self.token(tunnel, &id, &format!("{number} ")).await;
                }
                self.say(tunnel, Frame::Done { id, body }).await;
            }
            "flood" => {
                let text = "x".repeat(64 * 1024);
                for _ in 0..body["pieces"].as_u64().unwrap() {
                    self.token(tunnel, &id, &text).await;
                }
                self.say(tunnel, Frame::Done { id, body }).await;
            }
            "clock" => {
                for _ in 0..body["to"].as_u64().unwrap() {
                    let text = self.epoch.elapsed().as_nanos().to_string();
                    self.token(tunnel, &id, &text).await;
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                self.say(tunnel, Frame::Done { id, body }).await;
            }
            "fail" => {
                let problem = Problem::new(Code::Paused, "chat is offered in private mode only");
                self.say(tunnel, Frame::Failed { id, problem }).await;
            }
            "close" => {
                let reason = "the node leaves private mode".to_owned();
                self.say(tunnel, Frame::Close { reason }).await;
            }
            // One frame is lost on the way.
            "gap" => {
                self.number(tunnel);
                self.token(tunnel, &id, "after a gap").await;
            }
            "twice" => {
                let frame = Frame::Token {
                    id: id.clone(),
                    text: "once".into(),
                };
                let seq = self.number(tunnel);
                for _ in 0..3 {
                    self.publish(tunnel, seq, frame.clone()).await;
                }
                self.say(tunnel, Frame::Done { id, body: json!({}) }).await;
            }
            // As a node that has started anew answers a tunnel that it does not know.
            "restart" => {
                let reason = "the node has restarted and does not know this tunnel".to_owned();
                self.publish(tunnel, u64::MAX, Frame::Close { reason }).await;
            }
            "silence" => {}
            other => panic!("the test's node does not know `{other}`"),
        }
    }

    async fn token(&self, tunnel: &Token, id: &str, text: &str) {
        let (id, text) = (id.to_owned(), text.to_owned());
        self.say(tunnel, Frame::Token { id, text }).await;
    }

    pub(crate) async fn say(&self, tunnel: &Token, frame: Frame) {
        let seq = self.number(tunnel);
        self.publish(tunnel, seq, frame).await;
    }

    fn number(&self, tunnel: &Token) -> u64 {
        let mut sent = self.sent.lock().unwrap();
        let last = sent.entry(tunnel.clone()).or_default();
        *last += 1;
        *last
    }

    pub(crate) async fn publish(&self, tunnel: &Token, seq: u64, frame: Frame) {
        let sealed = Sealed {
            tunnel: tunnel.clone(),
            seq,
            frame,
        };
        let subject = Subject::NodeService {
            node: self.node.clone(),
            service: "gateway".parse().unwrap(),
            endpoint: tunnel.clone(),
        };
        let payload = serde_json::to_vec(&sealed).unwrap().into();
        self.bus.publish(&subject, payload).await.unwrap();
    }

    /// Frames of one kind that it heard.
    pub(crate) fn heard(&self, name: &str) -> Vec<Sealed> {
        let heard = self.heard.lock().unwrap();
        let named = heard
            .iter()
            .filter(|sealed| serde_json::to_value(sealed).unwrap()["frame"] == name);
        named.cloned().collect()
    }
}
