//! `/api/runtimes/v1/agent-nodes/{node_id}/tunnel`: clients and nodes, both ways. Every route asks whether the person may
//! speak to the node; a tunnel of somebody else's does not exist.

mod events;
mod ws;

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mesh_api::fleet::NodeStatus;
use mesh_api::heartbeat::{Observed, ObservedRequest};
use mesh_api::tunnel::{Frame, Sealed};
use mesh_types::{Code, ExchangeId, NodeId, Problem, Timestamp, Token, TunnelId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{FromParams, Json, Nothing, Params, Query, Segment, WhoNode};
use super::invocations::WAIT_SECONDS_MAX;
use super::problem::Failure;
use crate::state::App;
use crate::tunnel::log::{Entry, Next};
use crate::tunnel::rights::{self, Opener};
use crate::tunnel::{Attached, Road, Tunnel, Tunnels, closed};
pub(super) use ws::no_websocket;

/// Streamed text of one exchange that a waiting post answers with, in bytes; more is in the tunnel's events.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// They stream, or wait for the node.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(ws::socket)) //     GET  …/tunnel/ws
        .routes(routes!(post_message)) //   POST …/tunnel/messages
        .routes(routes!(events::events)) // GET  …/tunnel/events
        .routes(routes!(status)) //         GET  …/tunnel/status
}

/// One message of a client.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct TunnelMessage {
    /// Absent: the tunnel that the same person's earlier posts to this node opened, or a new one.
    #[serde(default)]
    tunnel: Option<TunnelId>,
    /// Names the exchange; absent: an id is made.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    id: Option<Token>,
    /// What the node is to do, such as `chat`, `status`, `configuration`.
    #[schema(value_type = String, example = "chat")]
    kind: Token,
    #[serde(default)]
    #[schema(value_type = Object)]
    body: Value,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TunnelAnswer {
    tunnel: TunnelId,
    /// The exchange.
    id: String,
    /// Whether the exchange has ended; then `body` is its end.
    done: bool,
    /// All tokens that were streamed meanwhile.
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    body: Value,
}

struct Wait(Option<u32>);

impl FromParams for Wait {
    const NAMES: &'static [&'static str] = &["wait"];
    fn from_params(params: &mut Params) -> Result<Self, Failure> {
        params.take_number("wait", 0, WAIT_SECONDS_MAX).map(Self)
    }
}

/// Sends one message to the node. 202 once it is on its way; with `?wait=` 200 with the end of the exchange, or 202 if it
/// has not ended by then. What comes of it is also in the tunnel's events.
#[utoipa::path(post, path = "/api/runtimes/v1/agent-nodes/{node_id}/tunnel/messages", operation_id = "post_tunnel_message",
    tag = "tunnel", request_body = TunnelMessage,
    params(("node_id" = NodeId, Path), ("wait" = Option<u32>, Query, maximum = 300, description = "Seconds to wait for the end, at most 300")),
    security(("credential" = ["service"])),
    responses((status = 200, body = TunnelAnswer, description = "ended"), (status = 202, body = TunnelAnswer, description = "sent")))]
async fn post_message(
    State(app): State<App>,
    who: WhoNode,
    Segment(node): Segment<NodeId>,
    Query(Wait(wait)): Query<Wait>,
    Json(message): Json<TunnelMessage>,
) -> Result<Response, Failure> {
    let opener = opener_of(who);
    let tunnel = match message.tunnel {
        Some(id) => own_tunnel(&app, &opener, &node, id).await?,
        None => match posted_before(&app, &opener, &node).await? {
            Some(tunnel) => tunnel,
            None => Tunnels::open(&app, opener, &node, Road::Messages).await?.0,
        },
    };
    let id = exchange_id(&app, message.id);
    // Before it is sent: its end is not missed.
    let mut reader = tunnel.attach(tunnel.log.last())?;
    tunnel.send(&id, &message.kind, message.body)?;
    let mut answer = TunnelAnswer {
        tunnel: tunnel.id,
        id: id.to_string(),
        done: false,
        text: String::new(),
        body: Value::Null,
    };
    if let Some(seconds) = wait.filter(|seconds| *seconds > 0) {
        let deadline = Instant::now() + Duration::from_secs(seconds.into());
        wait_for_end(&app, &mut reader, &mut answer, deadline).await?;
    }
    let status = if answer.done {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(answer)).into_response())
}

/// Until the exchange ends, the deadline passes, or this process stops.
async fn wait_for_end(
    app: &App,
    reader: &mut Attached,
    answer: &mut TunnelAnswer,
    deadline: Instant,
) -> Result<(), Failure> {
    loop {
        let next = tokio::select! {
            next = reader.next() => next,
            () = tokio::time::sleep_until(deadline) => return Ok(()),
            () = app.shutdown.cancelled() => return Ok(()),
        };
        match next {
            Next::Entry(entry) => match frame_of(&entry) {
                Frame::Token { id, text } if id == answer.id && answer.text.len() + text.len() <= TEXT_BYTES_MAX => {
                    answer.text.push_str(&text);
                }
                Frame::Done { id, body } if id == answer.id => {
                    (answer.done, answer.body) = (true, body);
                    return Ok(());
                }
                Frame::Failed { id, problem } if id == answer.id => return Err(Failure(problem)),
                _ => {}
            },
            Next::Over(ended) => return Err(closed(ended.reason())),
            // The end may be among what is not kept any more: the tunnel's events tell, this answer does not.
            Next::Lost { .. } => return Ok(()),
            Next::Nothing => {}
        }
    }
}

pub(super) fn frame_of(entry: &Entry) -> Frame {
    let sealed: Result<Sealed, _> = serde_json::from_str(&entry.json);
    sealed.map_or(Frame::Ping, |sealed| sealed.frame)
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TunnelStatus {
    node_id: NodeId,
    /// Whether the node is seen.
    node: NodeStatus,
    /// Whether a tunnel of the person who asks is open.
    open: bool,
    tunnels: Vec<TunnelView>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TunnelView {
    tunnel: TunnelId,
    /// The route that it was opened by.
    road: Road,
    opened_at: Timestamp,
    /// Exchanges that have not ended.
    exchanges: Vec<String>,
    readers: usize,
    /// Number of the last frame.
    seq: u64,
}

/// The node as it is seen, and the asking person's own open tunnels to it in this process of the gateway.
#[utoipa::path(get, path = "/api/runtimes/v1/agent-nodes/{node_id}/tunnel/status", operation_id = "tunnel_status",
    tag = "tunnel", params(("node_id" = NodeId, Path)),
    security(("credential" = ["viewer"])),
    responses((status = 200, body = TunnelStatus)))]
async fn status(
    State(app): State<App>,
    who: WhoNode,
    Segment(node): Segment<NodeId>,
    Query(Nothing): Query<Nothing>,
) -> Result<Json<TunnelStatus>, Failure> {
    let opener = opener_of(who);
    rights::check(&app, &opener, &node).await?;
    let nodes = vec![node.clone()];
    let seen = app.call::<Observed>(&opener.caller, &ObservedRequest { nodes }).await?;
    let status = match seen.iter().find(|seen| seen.node_id == node) {
        None => NodeStatus::Registered,
        Some(seen) if seen.alive => NodeStatus::Online,
        Some(_) => NodeStatus::Offline,
    };
    let tunnels: Vec<TunnelView> = app.tunnels.of(&opener, &node).iter().map(|one| view(one)).collect();
    Ok(Json(TunnelStatus {
        node_id: node,
        node: status,
        open: !tunnels.is_empty(),
        tunnels,
    }))
}

fn view(tunnel: &Tunnel) -> TunnelView {
    TunnelView {
        tunnel: tunnel.id,
        road: tunnel.road,
        opened_at: tunnel.opened_at,
        exchanges: tunnel.exchanges().iter().cloned().collect(),
        readers: tunnel.readers(),
        seq: tunnel.log.last(),
    }
}

pub(super) fn opener_of(who: WhoNode) -> Opener {
    Opener {
        caller: who.caller,
        credential: who.credential,
    }
}

pub(super) fn exchange_id(app: &App, given: Option<Token>) -> Token {
    given.unwrap_or_else(|| {
        let id: ExchangeId = app.ids.next();
        id.to_string().parse().expect("an id is a token")
    })
}

/// The tunnel of that id, if it is this person's and the node is still open to him. A stranger's attempt is noted.
async fn own_tunnel(
    app: &App,
    opener: &Opener,
    node: &NodeId,
    id: TunnelId,
) -> Result<std::sync::Arc<Tunnel>, Failure> {
    rights::check(app, opener, node).await?;
    if let Some(tunnel) = app.tunnels.find(opener, node, id) {
        return Ok(tunnel);
    }
    let reason = "no tunnel of this person's to this node";
    super::credentials::note_refused(app, &opener.caller, "tunnel.use", &id.to_string(), reason).await;
    let problem = Problem::new(Code::TunnelNotFound, format!("there is no tunnel {id} to `{node}`"));
    Err(Failure(problem).next("leave `tunnel` out to open another"))
}

/// Rights are checked here too: a tunnel that was opened before would tell that the node exists.
pub(super) async fn posted_before(
    app: &App,
    opener: &Opener,
    node: &NodeId,
) -> Result<Option<std::sync::Arc<Tunnel>>, Failure> {
    let own = app.tunnels.of(opener, node);
    let Some(tunnel) = own.into_iter().rfind(|tunnel| tunnel.road == Road::Messages) else {
        return Ok(None);
    };
    rights::check(app, opener, node).await?;
    Ok(Some(tunnel))
}
