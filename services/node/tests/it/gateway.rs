//! Joining with the address of a gateway: NATS where it says, or through it where nothing but HTTP leaves the building.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::ws::{Message, WebSocket};
use axum::extract::{State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{SinkExt, StreamExt};
use mesh_api::identity::EnrollRequest;
use mesh_runtime::Secret;
use mesh_testkit::wait_until;
use mesh_types::{Code, Problem};
use node::{Door, JoinError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Mesh, Running, SECRET, SOON, TOKEN, config, enroll, pinned, stored};

/// What the gateway says and passes on.
struct Gateway {
    mesh: Arc<Mesh>,
    nats_url: Option<String>,
    /// Registrations that fail before the first one that does not.
    failures: AtomicU32,
    tunnels: AtomicU32,
}

impl Gateway {
    fn new(mesh: &Arc<Mesh>, nats_url: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            mesh: Arc::clone(mesh),
            nats_url,
            failures: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
        })
    }

    async fn serve(self: &Arc<Self>) -> Door {
        let router = Router::new()
            .route("/api/runtimes/v1/agent-nodes/register", post(register))
            .route("/api/runtimes/v1/nats", get(proxy))
            .with_state(Arc::clone(self));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Door {
            url,
            token: Some(Secret::from(TOKEN)),
            tenant: None,
        }
    }
}

async fn register(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let left = |count: u32| count.checked_sub(1);
    if gateway
        .failures
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
        .is_ok()
    {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting").into_response();
    }
    let mut request: EnrollRequest = serde_json::from_value(body).unwrap();
    request.credential = headers
        .get("X-Service-API-Key")
        .map(|key| key.to_str().unwrap().to_owned());
    let answered = match request.credential {
        Some(_) => enroll(&gateway.mesh.known, request),
        None => Err(Problem::new(Code::Unauthorized, "nobody gets in without")),
    };
    match answered {
        Ok(enrolled) => Json(json!({
            "agent_node": enrolled.node, "secret": enrolled.secret, "nats_url": gateway.nats_url,
        }))
        .into_response(),
        Err(problem) => (StatusCode::from_u16(problem.status).unwrap(), Json(problem)).into_response(),
    }
}

async fn proxy(State(gateway): State<Arc<Gateway>>, upgrade: WebSocketUpgrade) -> Response {
    gateway.tunnels.fetch_add(1, Ordering::SeqCst);
    let address = gateway.mesh.nats.url().trim_start_matches("nats://").to_owned();
    upgrade.on_upgrade(|socket| pass_on(socket, address))
}

/// Until either side ends.
async fn pass_on(socket: WebSocket, address: String) {
    let Ok(nats) = TcpStream::connect(address).await else {
        return;
    };
    let (mut from_nats, mut to_nats) = nats.into_split();
    let (mut to_node, mut from_node) = socket.split();
    let there = async {
        while let Some(Ok(message)) = from_node.next().await {
            if let Message::Binary(bytes) = message
                && to_nats.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_nats.read(&mut buffer).await {
            let bytes = buffer[..read].to_vec();
            if to_node.send(Message::Binary(bytes.into())).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

#[tokio::test]
async fn where_only_http_leaves_the_building_nats_goes_through_the_gateway() {
    let mesh = Arc::new(Mesh::with_credentials().await);
    // Nobody listens there.
    let gateway = Gateway::new(&mesh, Some("nats://127.0.0.1:1".into()));
    gateway.failures.store(2, Ordering::SeqCst);
    let door = gateway.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let mut heard = mesh.heartbeats("kitchen").await;
    let node = Running::start(pinned(folder.path(), "kitchen"), door.clone())
        .await
        .unwrap();
    let first = heard.next().await;
    assert_eq!(gateway.tunnels.load(Ordering::SeqCst), 1);
    assert_eq!(stored(folder.path())["secret"], SECRET);
    mesh.nats.kill().await;
    wait_until(SOON, || async { !node.bus.is_connected() }).await;
    mesh.nats.restart().await;
    heard.until(|heartbeat| heartbeat.seq > first.seq + 1).await;
    node.stop().await;
    // It comes back by what it keeps.
    let door = Door { token: None, ..door };
    let again = Running::start(config(folder.path()), door).await.unwrap();
    heard.until(|heartbeat| heartbeat.incarnation > first.incarnation).await;
    again.stop().await;
}

#[tokio::test]
async fn where_nats_can_be_reached_it_is() {
    let mesh = Arc::new(Mesh::with_credentials().await);
    let gateway = Gateway::new(&mesh, Some(mesh.nats.url().to_owned()));
    let door = gateway.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let mut heard = mesh.heartbeats("kitchen").await;
    let node = Running::start(pinned(folder.path(), "kitchen"), door).await.unwrap();
    heard.next().await;
    node.stop().await;
    assert_eq!(gateway.tunnels.load(Ordering::SeqCst), 0);
    assert_eq!(stored(folder.path())["nats_url"], mesh.nats.url());
}

#[tokio::test]
async fn a_gateway_that_refuses_is_not_asked_again() {
    let mesh = Arc::new(Mesh::with_credentials().await);
    let gateway = Gateway::new(&mesh, None);
    let door = gateway.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let start = |token: Option<&str>| {
        let token = token.map(Secret::from);
        Running::start(config(folder.path()), Door { token, ..door.clone() })
    };
    assert!(matches!(start(None).await, Err(JoinError::NoCredential { .. })));
    let foreign = start(Some("mjt_foreign")).await;
    assert!(matches!(foreign, Err(JoinError::Rejected { .. })));
    assert_eq!(mesh.known.lock().unwrap().nodes.len(), 0);
}

#[tokio::test]
async fn a_token_goes_nowhere_but_to_the_address_it_was_given_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let elsewhere = post(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::INTERNAL_SERVER_ERROR }
    });
    let redirect = post(|| async { (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]) });
    let router = Router::new()
        .route("/api/runtimes/v1/agent-nodes/register", redirect)
        .route("/elsewhere", elsewhere);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let folder = tempfile::tempdir().unwrap();
    let token = Some(Secret::from(TOKEN));
    let door = Door {
        url,
        token,
        tenant: None,
    };
    let error = Running::start(config(folder.path()), door).await.err().unwrap();
    assert!(error.to_string().contains("leads to /elsewhere"), "{error}");
    assert!(error.next().contains("--url"), "{}", error.next());
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
