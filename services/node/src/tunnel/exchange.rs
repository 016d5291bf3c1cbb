//! One exchange of a tunnel, by its kind: `chat`, `status`, `configuration`.

use std::sync::Arc;

use mesh_api::inference::Completion;
use mesh_api::tunnel::Frame;
use mesh_types::{Code, Problem};
use serde_json::{Value, json};

use super::Tunnels;
use crate::chat::{Said, Talk, Talker};
use crate::local::{Patch, Status};

/// What a `done` of a chat holds at most, in bytes; the tokens said all of it.
const DONE_TEXT_BYTES_MAX: usize = 32 * 1024;
const KINDS: &str = "`chat`, `status`, `configuration`";

pub(super) struct Exchange {
    pub(super) id: String,
    state: State,
}

enum State {
    Asked { kind: String, body: Value },
    Talking(Box<Talk>),
    Over,
}

pub(super) enum Spoken {
    /// More follows.
    More(Frame),
    End(Frame),
}

impl Exchange {
    pub(super) fn new(id: String, kind: String, body: Value) -> Self {
        Self {
            id,
            state: State::Asked { kind, body },
        }
    }

    /// Up to the next thing to say.
    pub(super) async fn go_on(mut self, tunnels: Arc<Tunnels>, talker: Talker) -> (Self, Spoken) {
        let spoken = loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Asked { kind, body } if kind == "chat" => match talk(&tunnels, talker, body).await {
                    Ok(talk) => self.state = State::Talking(Box::new(talk)),
                    Err(problem) => break self.failed(problem),
                },
                State::Asked { kind, body } => match answer(&tunnels, talker, &kind, body).await {
                    Ok(body) => break self.done(body),
                    Err(problem) => break self.failed(problem),
                },
                State::Talking(mut talk) => match talk.next().await {
                    Some(Said::Text(text)) => {
                        self.state = State::Talking(talk);
                        let id = self.id.clone();
                        break Spoken::More(Frame::Token { id, text });
                    }
                    Some(Said::Reset(attempt)) => {
                        self.state = State::Talking(talk);
                        break Spoken::More(Frame::Message {
                            id: self.id.clone(),
                            kind: "reset".to_owned(),
                            body: json!({"attempt": attempt}),
                        });
                    }
                    Some(Said::Done(completion)) => break self.done(told(*completion)),
                    Some(Said::Failed(problem)) => break self.failed(problem),
                    None => {}
                },
                State::Over => break self.failed(Problem::new(Code::Internal, "the exchange is over")),
            }
        };
        (self, spoken)
    }

    fn done(&self, body: Value) -> Spoken {
        let id = self.id.clone();
        Spoken::End(Frame::Done { id, body })
    }

    fn failed(&self, problem: Problem) -> Spoken {
        let id = self.id.clone();
        Spoken::End(Frame::Failed { id, problem })
    }
}

async fn talk(tunnels: &Tunnels, talker: Talker, body: Value) -> Result<Talk, Problem> {
    let invalid = |error: serde_json::Error| Problem::new(Code::InvalidRequest, error.to_string()).field("body");
    let request = serde_json::from_value(body).map_err(invalid)?;
    tunnels.chat.talk(talker, request).await
}

async fn answer(tunnels: &Tunnels, talker: Talker, kind: &str, body: Value) -> Result<Value, Problem> {
    match kind {
        "status" => Ok(status(tunnels, talker)),
        "configuration" => configuration(tunnels, talker, body).await,
        other => {
            let shown: String = other.chars().take(40).collect();
            let detail = format!("a node knows {KINDS}, not `{shown}`");
            Err(Problem::new(Code::InvalidRequest, detail).field("kind"))
        }
    }
}

/// What others run here is the owner's to see.
fn status(tunnels: &Tunnels, talker: Talker) -> Value {
    let mut status = Status::of(tunnels.settings.as_ref(), &tunnels.models, talker);
    if talker != Talker::Owner {
        status.running.replicas.clear();
    }
    json!(status)
}

/// Read, or changed by what the body says. Who pays, and with whom it is shared, is the owner's to know.
async fn configuration(tunnels: &Tunnels, talker: Talker, body: Value) -> Result<Value, Problem> {
    let known = tunnels.settings.configuration();
    let changes = body.as_object().is_some_and(|fields| !fields.is_empty());
    match (talker, changes) {
        (Talker::Owner, false) => Ok(json!(known)),
        (Talker::Owner, true) => {
            let invalid =
                |error: serde_json::Error| Problem::new(Code::InvalidRequest, error.to_string()).field("body");
            let patch: Patch = serde_json::from_value(body).map_err(invalid)?;
            Ok(json!(tunnels.settings.reconfigure(patch.onto(known)).await?))
        }
        (_, false) => Ok(json!({"mode": known.mode, "node_uid": known.node_uid})),
        (_, true) => Err(Problem::new(Code::Forbidden, "only its owner changes a node")),
    }
}

fn told(mut completion: Completion) -> Value {
    let is_cut = completion.text.len() > DONE_TEXT_BYTES_MAX;
    if is_cut {
        completion.text.clear();
    }
    let mut body = json!(completion);
    if is_cut && let Some(fields) = body.as_object_mut() {
        // The tokens said it.
        fields.remove("text");
    }
    body
}
