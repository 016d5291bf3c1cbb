//! `/api/runtimes/v1/nats`: NATS over WebSocket for nodes where only HTTPS leaves the building. The bytes are the NATS
//! protocol as it is; who comes through is the server's to ask, by the client's own CONNECT. Where the server asks nobody
//! (development mode) only this machine may come through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use bytes::BytesMut;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use mesh_bus::ServerAddress;
use mesh_runtime::Tasks;
use mesh_types::Code;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Nothing, Query};
use super::problem::Failure;
use super::tunnel::no_websocket;
use crate::state::App;
use crate::tunnel::NatsProxyConfig;
use crate::tunnel::end::code;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest WebSocket message to the client; one read of the server's bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// What a proxy in front of the gateway says of whom it speaks for.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(nats))
}

/// What all connections share.
pub(crate) struct NatsProxy {
    settings: NatsProxyConfig,
    places: Arc<Semaphore>,
    tasks: Tasks,
}

impl NatsProxy {
    pub(crate) fn new(settings: NatsProxyConfig, tasks: Tasks) -> Self {
        let places = Arc::new(Semaphore::new(settings.connections_max));
        Self {
            settings,
            places,
            tasks,
        }
    }

    fn show(&self, app: &App) {
        let open = self
            .settings
            .connections_max
            .saturating_sub(self.places.available_permits());
        app.live_connections
            .set(i64::try_from(open).unwrap_or(i64::MAX), &[("kind", "nats")]);
    }
}

/// The NATS protocol in binary WebSocket frames, for nodes; `mesh node --url https://…` uses it where NATS itself cannot be
/// reached. The NATS server asks for the node's credential. Not for browsers.
#[utoipa::path(get, path = "/api/runtimes/v1/nats", operation_id = "nats_websocket", tag = "nodes",
    security(()),
    responses((status = 101, description = "a WebSocket")))]
async fn nats(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Query(Nothing): Query<Nothing>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let is_local = is_of_this_machine(peer, &headers);
    refuse_strangers(&headers, is_local || app.desk.requires_credentials())?;
    let upgrade = upgrade.map_err(|error| no_websocket(&error))?;
    let proxy = &app.nats_proxy;
    let busy = |_| Failure::new(Code::Busy, "too many connections to NATS go through this gateway");
    let place = Arc::clone(&proxy.places).try_acquire_owned().map_err(busy)?;
    // Before the upgrade: a client learns of a missing server from the answer and tries again later.
    let server = connect(&app.bus.server_addresses()).await?;
    refuse_strangers(&headers, is_local || server.asks_who)?;
    let bytes_max = proxy.settings.message_bytes_max;
    let idle = Duration::from_secs(proxy.settings.idle_seconds);
    let tasks = proxy.tasks.clone();
    let upgrade = upgrade
        .max_message_size(bytes_max)
        .max_frame_size(bytes_max)
        .max_write_buffer_size(8 * CHUNK_BYTES);
    Ok(upgrade.on_upgrade(move |socket| async move {
        tasks.spawn("nats-proxy", bridge(app, socket, server, idle, place));
    }))
}

/// A page in a browser has no business here, and where the server asks nobody, only this machine has.
fn refuse_strangers(headers: &HeaderMap, is_known_or_asked: bool) -> Result<(), Failure> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Failure::new(Code::Forbidden, "this road is for nodes, not for pages"));
    }
    if is_known_or_asked {
        return Ok(());
    }
    let detail = "NATS asks nobody who he is here, so only this machine may come through";
    Err(Failure::new(Code::Forbidden, detail).next("start the mesh with MESH_REQUIRE_CREDENTIALS=1"))
}

/// A proxy in front speaks from this machine, too, and for others.
fn is_of_this_machine(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    !is_forwarded && peer.ip().to_canonical().is_loopback()
}

/// A connection to the server that has introduced itself.
struct Greeted {
    stream: TcpStream,
    /// Its first words, which are the client's to read.
    said: BytesMut,
    /// It lets nobody in without credentials.
    asks_who: bool,
}

/// What matters here of the server's INFO.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    auth_required: bool,
    #[serde(default)]
    tls_required: bool,
}

/// The first server that answers; TLS towards the server is not spoken.
async fn connect(addresses: &[ServerAddress]) -> Result<Greeted, Failure> {
    for address in addresses {
        if address.scheme != "nats" {
            tracing::warn!(
                host = address.host,
                scheme = address.scheme,
                "nodes cannot come to this NATS server through the gateway: it speaks plain nats:// only; give them the server's own address"
            );
            continue;
        }
        match tokio::time::timeout(CONNECT_TIMEOUT, greet(address)).await {
            Ok(Ok(server)) => return Ok(server),
            Ok(Err(error)) => {
                tracing::warn!(%error, host = address.host, "NATS did not answer the gateway's road for nodes")
            }
            Err(_) => tracing::warn!(
                host = address.host,
                "NATS did not answer the gateway's road for nodes in time"
            ),
        }
    }
    Err(Failure::new(
        Code::Unavailable,
        "NATS cannot be reached from the gateway at the moment",
    ))
}

/// Connects and reads the server's first line.
async fn greet(address: &ServerAddress) -> std::io::Result<Greeted> {
    let mut stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let mut said = BytesMut::with_capacity(CHUNK_BYTES);
    let line = loop {
        if let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if said.len() >= CHUNK_BYTES || stream.read_buf(&mut said).await? == 0 {
            return Err(std::io::Error::other("it does not introduce itself as NATS does"));
        }
    };
    let info = said[..line].strip_prefix(b"INFO ").unwrap_or_default();
    let info: Info = serde_json::from_slice(info).map_err(std::io::Error::other)?;
    if info.tls_required {
        return Err(std::io::Error::other(
            "it demands TLS, which this road does not speak towards the server",
        ));
    }
    Ok(Greeted {
        stream,
        said,
        asks_who: info.auth_required,
    })
}

/// Why a bridge ends.
struct Parting {
    reason: &'static str,
    /// What the client is told besides; a NATS client takes all it is told for its protocol and only needs the end.
    code: Option<u16>,
}

impl Parting {
    fn quiet(reason: &'static str) -> Self {
        Self { reason, code: None }
    }

    fn with(code: u16, reason: &'static str) -> Self {
        let code = Some(code);
        Self { reason, code }
    }
}

/// Carries bytes both ways until one side ends. Each direction reads the next piece only after the last one is written,
/// so a slow side slows the other down and nothing piles up here.
async fn bridge(app: App, socket: WebSocket, server: Greeted, idle: Duration, place: OwnedSemaphorePermit) {
    app.nats_proxy.show(&app);
    let (mut to_client, from_client) = socket.split();
    let (from_server, to_server) = server.stream.into_split();
    let (moved, last_moved) = watch::channel(Instant::now());
    let parting = tokio::select! {
        parting = inward(from_client, to_server, &moved) => parting,
        parting = outward(server.said, from_server, &mut to_client, &moved) => parting,
        () = stillness(last_moved, idle) => Parting::quiet("nothing was said for too long"),
        () = app.shutdown.cancelled() => Parting::quiet("the gateway stops"),
    };
    let Parting { reason, code } = parting;
    let close = Message::Close(code.map(|code| CloseFrame {
        code,
        reason: reason.into(),
    }));
    let _ = tokio::time::timeout(Duration::from_secs(1), to_client.send(close)).await;
    tracing::debug!(reason, "a connection to NATS ended");
    drop(place);
    app.nats_proxy.show(&app);
}

async fn inward(
    mut from_client: SplitStream<WebSocket>,
    mut to_server: OwnedWriteHalf,
    moved: &watch::Sender<Instant>,
) -> Parting {
    while let Some(message) = from_client.next().await {
        match message {
            Ok(Message::Binary(bytes)) => {
                if to_server.write_all(&bytes).await.is_err() {
                    // The server's last words, such as a refusal, are still on their way to the client.
                    return std::future::pending().await;
                }
                moved.send_replace(Instant::now());
            }
            Ok(Message::Text(_)) => return Parting::with(code::UNSUPPORTED, "NATS goes in binary frames"),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) => return Parting::quiet("the client left"),
            Err(_) => return Parting::quiet("the connection broke, or a message was over the limit"),
        }
    }
    Parting::quiet("the client left")
}

async fn outward(
    said: BytesMut,
    mut from_server: OwnedReadHalf,
    to_client: &mut SplitSink<WebSocket, Message>,
    moved: &watch::Sender<Instant>,
) -> Parting {
    let mut buffer = said;
    loop {
        if to_client.send(Message::Binary(buffer.split().freeze())).await.is_err() {
            return Parting::quiet("the client left");
        }
        moved.send_replace(Instant::now());
        buffer.reserve(CHUNK_BYTES);
        match from_server.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Parting::quiet("NATS closed the connection"),
            Ok(_) => {}
        }
    }
}

/// Ends when nothing has moved for so long.
async fn stillness(last_moved: watch::Receiver<Instant>, idle: Duration) {
    loop {
        let ends_at = *last_moved.borrow() + idle;
        if Instant::now() >= ends_at {
            return;
        }
        tokio::time::sleep_until(ends_at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn where_nobody_is_asked_only_this_machine_comes_through() {
        let none = HeaderMap::new();
        for here in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert!(is_of_this_machine(peer(here), &none), "{here}");
        }
        for there in ["192.168.0.7:5", "[2001:db8::1]:5", "0.0.0.0:5"] {
            assert!(!is_of_this_machine(peer(there), &none), "{there}");
        }
        for name in FORWARDED {
            let mut headers = HeaderMap::new();
            headers.insert(name, "127.0.0.1".parse().unwrap());
            assert!(!is_of_this_machine(peer("127.0.0.1:5"), &headers), "{name}");
        }
        assert!(refuse_strangers(&none, true).is_ok() && refuse_strangers(&none, false).is_err());
        let mut page = HeaderMap::new();
        page.insert(header::ORIGIN, "http://localhost:8000".parse().unwrap());
        assert!(refuse_strangers(&page, true).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_after_the_last_byte_and_not_before() {
        let (moved, last_moved) = watch::channel(Instant::now());
        let started = Instant::now();
        let idle = Duration::from_secs(10);
        tokio::join!(stillness(last_moved, idle), async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(7)).await;
                moved.send_replace(Instant::now());
            }
        });
        assert_eq!(started.elapsed(), Duration::from_secs(45));
    }
}
