//! The node's own face on a whole node: its page's API over HTTP, and a tunnel, with the NATS rights of a node only.

use std::path::Path;

use mesh_api::identity::{CredentialVerify, Principal, PrincipalKind};
use mesh_api::inference::{Chat, Chunk, Completion, ModelList, ModelView, Models};
use mesh_api::tunnel::{Frame, Sealed};
use mesh_bus::ServiceHandle;
use mesh_testkit::{free_port, wait_until};
use mesh_types::fleet::NodeMode;
use mesh_types::subject::Filter;
use mesh_types::{Code, Problem, Subject, Tenant};
use node::Config;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Mesh, Running, SOON, TOKEN, pinned};

const KEY: &str = "mak_01ARZ3NDEKTSV4RRFFQ69G5FAV_of-ann";

/// The page of one node.
struct Page {
    http: Client,
    port: u16,
    key: String,
}

impl Page {
    fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        self.http.request(method, url).bearer_auth(&self.key)
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }
}

/// The node `kitchen` with a page on a free port.
async fn kitchen(mesh: &Mesh, folder: &Path, token: Option<&str>) -> (Running, Page) {
    let port = free_port().unwrap();
    let config = Config {
        local: true,
        local_port: port,
        ..pinned(folder, "kitchen")
    };
    let door = token.map_or_else(|| mesh.door(), |token| mesh.door_with(token));
    let node = Running::start(config, door).await.unwrap();
    let page = Page {
        http: Client::builder().no_proxy().build().unwrap(),
        port,
        key: token.unwrap_or_default().to_owned(),
    };
    wait_until(SOON, || async { page.ask(Method::GET, "/health").send().await.is_ok() }).await;
    (node, page)
}

/// What nodes ask of `inference` and `identity` for themselves.
async fn serve_roads(mesh: &Mesh) -> (ServiceHandle, ServiceHandle) {
    let inference = mesh.bus.service("inference", "1.0.0");
    let inference = inference
        .node_endpoint::<Models, _, _>(|_, _| async {
            let view = ModelView {
                name: "gpt-4".into(),
                provider: "openai".into(),
                available: true,
            };
            Ok(ModelList { items: vec![view] })
        })
        .node_stream_endpoint::<Chat, _, _>(|node, request, sink| async move {
            let text = format!("{node} asks {}", request.model);
            sink.send(Chunk::Attempt(1)).await?;
            sink.send(Chunk::Text(text.clone())).await?;
            let completion = json!({"text": text, "model": request.model, "provider": "mock", "finish_reason": "stop",
                                    "usage": {}, "attempt": 1});
            Ok(serde_json::from_value::<Completion>(completion).unwrap())
        });
    let identity = mesh.bus.service("identity", "1.0.0");
    let identity = identity.node_endpoint::<CredentialVerify, _, _>(|_, request| async move {
        let kind = match request.credential.as_str() {
            KEY => PrincipalKind::Key,
            TOKEN => PrincipalKind::JoinToken,
            _ => return Err(Problem::new(Code::Unauthorized, "unknown")),
        };
        Ok(Principal {
            role: None,
            scopes: Vec::new(),
            id: "key_01ARZ3NDEKTSV4RRFFQ69G5FAV".into(),
            kind,
            owner: "ann".into(),
            tenant: Tenant::default(),
        })
    });
    let roads = (inference.start().await.unwrap(), identity.start().await.unwrap());
    mesh.bus.flush().await.unwrap();
    roads
}

#[tokio::test]
async fn the_page_of_an_owned_node_configures_it_and_chats_by_its_own_road() {
    let mesh = Mesh::with_credentials().await;
    let _roads = serve_roads(&mesh).await;
    let folder = tempfile::tempdir().unwrap();
    let (node, mut page) = kitchen(&mesh, folder.path(), Some(TOKEN)).await;
    let status = page.get("/api/v1/status").await;
    assert_eq!(
        (&status["node_id"], &status["owner"]),
        (&json!("kitchen"), &json!("ann"))
    );
    page.key = "mak_01ARZ3NDEKTSV4RRFFQ69G5FAV_of-bob".into();
    assert_eq!(page.get("/api/v1/status").await["type"], "identity/unauthorized");
    page.key = KEY.into();
    let models = page.get("/api/v1/configure/inference/models").await;
    assert_eq!(
        (&models["source"], &models["items"][0]["name"]),
        (&json!("centre"), &json!("gpt-4"))
    );

    let asked = json!({"messages": [{"role": "user", "content": "hi"}]});
    let answer = page
        .ask(Method::POST, "/api/v1/chat")
        .json(&asked)
        .send()
        .await
        .unwrap();
    let events = answer.text().await.unwrap();
    assert!(events.contains(r#"data: {"text":"kitchen asks gpt-4"}"#), "{events}");
    assert!(events.contains("event: done"), "{events}");

    let mut heard = mesh.heartbeats("kitchen").await;
    let wanted = json!({"mode": "shared", "node_uid": "cellar", "sharing": {"users": ["bob"]}});
    let path = "/api/v1/agent-node/configuration";
    let changed = page.ask(Method::POST, path).json(&wanted).send().await.unwrap();
    let changed: Value = changed.json().await.unwrap();
    assert_eq!(
        (&changed["mode"], &changed["node_uid"]),
        (&json!("shared"), &json!("kitchen"))
    );
    let known = mesh.entry(&node.id).configuration;
    assert_eq!(
        (known.mode, known.sharing.users),
        (NodeMode::Shared, vec!["bob".to_owned()])
    );
    heard.until(|heartbeat| heartbeat.mode == NodeMode::Shared).await;
    let refused = page
        .ask(Method::POST, "/api/v1/chat")
        .json(&asked)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 409);
    node.stop().await;
}

#[tokio::test]
async fn in_development_mode_a_local_key_opens_the_page_and_a_mesh_without_models_is_told() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (node, mut page) = kitchen(&mesh, folder.path(), None).await;
    assert_eq!(page.get("/api/v1/status").await["type"], "identity/unauthorized");
    page.key = std::fs::read_to_string(folder.path().join("local-key")).unwrap();
    assert_eq!(page.get("/api/v1/status").await["mode"], "private");
    let models = page.get("/api/v1/configure/inference/models").await;
    assert_eq!(models["source"], "fallback");
    let put = page.ask(Method::PUT, "/api/v1/configure/inference/provider");
    put.json(&json!({"provider": "local"})).send().await.unwrap();
    node.stop().await;
    let (node, mut page) = kitchen(&mesh, folder.path(), None).await;
    page.key = std::fs::read_to_string(folder.path().join("local-key")).unwrap();
    let kept = page.get("/api/v1/configure/inference/provider").await;
    assert_eq!(kept["provider"], "local");
    assert_eq!(page.get("/api/v1/configure/inference/models").await["items"], json!([]));
    node.stop().await;
}

#[tokio::test]
async fn a_tunnel_chats_with_the_rights_of_a_node_only() {
    let mesh = Mesh::with_credentials().await;
    let _roads = serve_roads(&mesh).await;
    let folder = tempfile::tempdir().unwrap();
    let (node, _page) = kitchen(&mesh, folder.path(), Some(TOKEN)).await;
    let back = Subject::NodeService {
        node: node.id.clone(),
        service: "gateway".parse().unwrap(),
        endpoint: "tun_1".parse().unwrap(),
    };
    let mut frames = mesh.bus.subscribe(&Filter::Only(back)).await.unwrap();
    let chat = json!({"messages": [{"role": "user", "content": "hi"}], "model": "gpt-4"});
    let said = [
        Frame::Open {
            actor: "user:ann".into(),
            owner: true,
        },
        Frame::Message {
            id: "a".into(),
            kind: "chat".into(),
            body: chat,
        },
    ];
    for (seq, frame) in (1..).zip(said) {
        let sealed = Sealed {
            tunnel: "tun_1".parse().unwrap(),
            seq,
            frame,
        };
        let subject = Subject::Tunnel { node: node.id.clone() };
        let payload = serde_json::to_vec(&sealed).unwrap();
        mesh.bus.publish(&subject, payload.into()).await.unwrap();
    }
    let mut text = String::new();
    let done = loop {
        let message = tokio::time::timeout(SOON, frames.next())
            .await
            .expect("it answers")
            .unwrap();
        match serde_json::from_slice::<Sealed>(&message.payload).unwrap().frame {
            Frame::Token { text: piece, .. } => text.push_str(&piece),
            Frame::Done { body, .. } => break body,
            Frame::Opened { .. } | Frame::Ping => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (text.as_str(), &done["text"]),
        ("kitchen asks gpt-4", &json!("kitchen asks gpt-4"))
    );
    node.stop().await;
    let last = tokio::time::timeout(SOON, frames.next())
        .await
        .expect("it says goodbye")
        .unwrap();
    let last: Sealed = serde_json::from_slice(&last.payload).unwrap();
    assert!(matches!(last.frame, Frame::Close { .. }), "{last:?}");
}
