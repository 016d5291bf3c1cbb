//! The bare broadcast: axum's WebSockets on tokio's broadcast channel and nothing else, as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Pushes that may wait for a client.
const KEPT: usize = 1_024;

#[derive(Debug, Args)]
pub(in crate::bench) struct BareArgs {
    #[arg(long)]
    port: u16,
}

/// Serves until the process is ended.
pub(in crate::bench) async fn run(args: &BareArgs) -> anyhow::Result<()> {
    let (sender, _) = broadcast::channel::<Utf8Bytes>(KEPT);
    let router = Router::new()
        .route("/", get(socket))
        .route("/send", post(send))
        .with_state(sender);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address).await.context("cannot listen")?;
    let listener = listener.tap_io(|stream| {
        // As the gateway does.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn send(State(sender): State<broadcast::Sender<Utf8Bytes>>, text: String) {
    // Without clients nobody hears it.
    let _ = sender.send(text.into());
}

async fn socket(State(sender): State<broadcast::Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    let receiver = sender.subscribe();
    upgrade.on_upgrade(move |socket| serve(socket, receiver))
}

async fn serve(mut socket: WebSocket, mut receiver: broadcast::Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            text = receiver.recv() => match text {
                Ok(text) => {
                    if socket.send(Message::Text(text)).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            },
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
        }
    }
}
