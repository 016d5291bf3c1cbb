//! The WebSocket of a tunnel: the client sends `{"id","kind","body"}`, every frame comes as JSON.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use mesh_api::tunnel::FRAME_BYTES_MAX;
use mesh_types::{Code, NodeId, Token, TunnelId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::events::check_place;
use super::{exchange_id, opener_of, own_tunnel};
use crate::http::extract::{FromParams, Params, Query, Segment, WhoNode};
use crate::http::origin;
use crate::http::problem::Failure;
use crate::state::App;
use crate::tunnel::end::code;
use crate::tunnel::log::Next;
use crate::tunnel::{Attached, Road, Tunnels};

/// How long a client may take to answer a close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// A message of the client's.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    id: Option<Token>,
    kind: Token,
    #[serde(default)]
    body: Value,
}

pub(super) struct Resume {
    tunnel: Option<TunnelId>,
    after: Option<u64>,
}

impl FromParams for Resume {
    const NAMES: &'static [&'static str] = &["tunnel", "after"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        Ok(Self {
            tunnel: params.take("tunnel")?,
            after: params.take("after")?,
        })
    }
}

/// Opens a tunnel, or with `tunnel` and `after` (the `seq` of the last frame) goes on with one whose connection was lost.
/// The client sends `{"id","kind","body"}`; frames come as `{"tunnel","seq","frame",…}`. A client that closes the
/// WebSocket closes the tunnel; one that is lost may come back within two minutes.
#[utoipa::path(get, path = "/api/runtimes/v1/agent-nodes/{node_id}/tunnel/ws", operation_id = "tunnel_websocket", tag = "tunnel",
    params(("node_id" = NodeId, Path), ("tunnel" = Option<TunnelId>, Query), ("after" = Option<u64>, Query)),
    security(("credential" = ["service"])),
    responses((status = 101, description = "a WebSocket")))]
pub(super) async fn socket(
    State(app): State<App>,
    who: WhoNode,
    Segment(node): Segment<NodeId>,
    Query(Resume { tunnel, after }): Query<Resume>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    origin::check(&app, &headers)?;
    let upgrade = upgrade.map_err(|error| no_websocket(&error))?;
    let opener = opener_of(who);
    let told = after.unwrap_or(0);
    let tunnel = match tunnel {
        Some(id) => own_tunnel(&app, &opener, &node, id).await?,
        None => Tunnels::open(&app, opener, &node, Road::Websocket).await?.0,
    };
    check_place(told, tunnel.log.last(), "after")?;
    let reader = tunnel.attach(told)?;
    let tasks = app.tunnels.tasks.clone();
    // A little more than a frame, so that one over the limit is refused by its size and not by a broken connection.
    let bytes_max = 2 * FRAME_BYTES_MAX;
    let upgrade = upgrade
        .max_message_size(bytes_max)
        .max_frame_size(bytes_max)
        .max_write_buffer_size(4 * FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        tasks.spawn("tunnel-socket", Line::new(app, socket, reader).serve());
    }))
}

pub(in crate::http) fn no_websocket(rejection: &WebSocketUpgradeRejection) -> Failure {
    Failure::new(Code::InvalidRequest, rejection.body_text()).next("open it as a WebSocket over HTTP/1.1")
}

/// One connected client.
struct Line {
    app: App,
    socket: WebSocket,
    reader: Attached,
    heard_at: Instant,
    ping_at: Instant,
    told_any: bool,
}

/// How a connection goes on.
enum Then {
    GoOn,
    /// Close with this; the tunnel may be resumed.
    Close(u16, String),
    /// Nobody is there any more.
    Gone,
}

impl Line {
    fn new(app: App, socket: WebSocket, reader: Attached) -> Self {
        let now = Instant::now();
        Self {
            app,
            socket,
            reader,
            heard_at: now,
            ping_at: now,
            told_any: false,
        }
    }

    async fn serve(mut self) {
        loop {
            let then = self.turn().await;
            match then {
                Then::GoOn => {}
                Then::Gone => return,
                Then::Close(code, reason) => {
                    let reason: Utf8Bytes = short(&reason).into();
                    self.send(Message::Close(Some(CloseFrame { code, reason }))).await;
                    self.await_close().await;
                    return;
                }
            }
        }
    }

    async fn turn(&mut self) -> Then {
        let (silence, now) = (self.silence(), Instant::now());
        if now >= self.heard_at + silence {
            return Then::Close(code::GOING_AWAY, "the client went silent".into());
        }
        if now >= self.ping_at {
            self.ping_at = now + silence / 3;
            return self.send(Message::Ping(Default::default())).await;
        }
        let wake_at = self.ping_at.min(self.heard_at + silence);
        tokio::select! {
            next = self.reader.next() => self.tell(next).await,
            message = self.socket.recv() => match message {
                Some(Ok(message)) => self.hear(message).await,
                Some(Err(_)) | None => Then::Gone,
            },
            () = tokio::time::sleep_until(wake_at) => Then::GoOn,
        }
    }

    async fn tell(&mut self, next: Next) -> Then {
        let was_told = std::mem::replace(&mut self.told_any, true);
        match next {
            Next::Entry(entry) => self.send(Message::Text(entry.json)).await,
            Next::Over(ended) => Then::Close(ended.close_code(), ended.reason().to_owned()),
            Next::Lost { up_to } => {
                let said =
                    json!({"tunnel": self.reader.tunnel.id, "seq": up_to, "frame": "reset", "lost_up_to": up_to});
                let sent = self.send(Message::Text(said.to_string().into())).await;
                if was_told && matches!(sent, Then::GoOn) {
                    return Then::Close(code::TRY_AGAIN, "the client reads too slowly".into());
                }
                sent
            }
            Next::Nothing => Then::GoOn,
        }
    }

    async fn hear(&mut self, message: Message) -> Then {
        self.heard_at = Instant::now();
        match message {
            Message::Text(text) => self.take(&text).await,
            Message::Binary(_) => Then::Close(code::UNSUPPORTED, "messages are JSON in text frames".into()),
            Message::Ping(_) | Message::Pong(_) => Then::GoOn,
            Message::Close(_) => {
                self.reader.tunnel.leave();
                // The answer to it goes out with the next read.
                let _ = tokio::time::timeout(CLOSE_PATIENCE, self.socket.recv()).await;
                Then::Gone
            }
        }
    }

    /// What cannot be sent is answered like a failed exchange; the connection goes on.
    async fn take(&mut self, text: &str) -> Then {
        let value = mesh_types::json::parse_value(text.as_bytes());
        let id_as_said = value.as_ref().ok().and_then(|value| value["id"].as_str());
        let id_as_said = id_as_said.unwrap_or_default().chars().take(64).collect::<String>();
        let said = value.and_then(mesh_types::json::from_value::<Said>).map_err(Failure);
        let sent = said.and_then(|Said { id, kind, body }| {
            let id = exchange_id(&self.app, id);
            self.reader.tunnel.send(&id, &kind, body)
        });
        let Err(Failure(problem)) = sent else {
            return Then::GoOn;
        };
        // Of no number: it is not the node's, and a resumed tunnel does not repeat it.
        let tunnel = self.reader.tunnel.id;
        let failed = json!({"tunnel": tunnel, "seq": self.reader.told(), "frame": "failed", "id": id_as_said, "problem": problem});
        self.send(Message::Text(failed.to_string().into())).await
    }

    /// A client that makes no room for so long is as gone as a silent one.
    async fn send(&mut self, message: Message) -> Then {
        let (silence, began) = (self.silence(), Instant::now());
        let sent = tokio::time::timeout(silence, self.socket.send(message)).await;
        // Meanwhile it was not listened to, which is no silence of its own.
        self.heard_at += began.elapsed();
        match sent {
            Ok(Ok(())) => Then::GoOn,
            Ok(Err(_)) | Err(_) => Then::Gone,
        }
    }

    fn silence(&self) -> Duration {
        Duration::from_millis(self.app.tunnels.settings.silence_ms)
    }

    /// The close is answered by a client that is there; without it the last frames might be cut off.
    async fn await_close(&mut self) {
        let answered = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, answered).await;
    }
}

/// A close frame has room for 123 bytes.
fn short(reason: &str) -> String {
    let mut short = String::new();
    for character in reason.chars() {
        if short.len() + character.len_utf8() > 123 {
            break;
        }
        short.push(character);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame() {
        assert_eq!(short("done"), "done");
        assert_eq!(short(&"ä".repeat(100)).len(), 122);
    }
}
