//! Stand-ins of the tests: a node, a mesh, and a real server that speaks the wire of OpenAI's chat completions.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::future::BoxFuture;
use mesh_api::fleet::NodeConfiguration;
use mesh_api::identity::{Principal, PrincipalKind};
use mesh_api::inference::{Chunk, CompleteRequest, Completion, ModelList, ModelView};
use mesh_bus::{Bus, BusOptions};
use mesh_runtime::{Context, Metrics, Secret};
use mesh_types::fleet::{NodeMode, ReplicaReport, ReplicaState};
use mesh_types::{Code, Id, NodeId, Problem, ReplicaId, Tenant};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Access, Running, Settings};
use crate::models::{Centre, InferenceConfig, Models};

/// A context whose bus reaches `url`, or nobody.
pub(crate) async fn context(url: Option<&str>) -> Context {
    let options = BusOptions {
        url: url.unwrap_or("nats://127.0.0.1:1").to_owned(),
        name: "node-test".to_owned(),
        monitor_url: None,
        user: None,
    };
    let bus = Bus::connect(options).await.unwrap();
    Context::new("node", bus, Metrics::default())
}

pub(crate) struct FakeNode {
    configuration: Mutex<NodeConfiguration>,
    pub(crate) access: Mutex<Access>,
}

impl FakeNode {
    pub(crate) fn new(access: Access) -> Arc<Self> {
        let configuration = NodeConfiguration {
            node_uid: Some("kitchen".parse().unwrap()),
            ..NodeConfiguration::default()
        };
        Arc::new(Self {
            configuration: Mutex::new(configuration),
            access: Mutex::new(access),
        })
    }

    pub(crate) fn of_ann(joined_with: Option<&str>) -> Arc<Self> {
        Self::new(Access::Owned {
            owner: "ann".to_owned(),
            tenant: Tenant::default(),
            joined_with: joined_with.map(Secret::from),
        })
    }

    pub(crate) fn set_mode(&self, mode: NodeMode) {
        self.configuration.lock().unwrap().mode = mode;
    }
}

impl Settings for FakeNode {
    fn node_id(&self) -> NodeId {
        "kitchen".parse().unwrap()
    }
    fn name(&self) -> String {
        "Kitchen".to_owned()
    }
    fn incarnation(&self) -> u64 {
        7
    }
    fn access(&self) -> Access {
        self.access.lock().unwrap().clone()
    }
    fn mode(&self) -> NodeMode {
        self.configuration().mode
    }
    fn configuration(&self) -> NodeConfiguration {
        self.configuration.lock().unwrap().clone()
    }
    fn reconfigure(&self, wanted: NodeConfiguration) -> BoxFuture<'_, Result<NodeConfiguration, Problem>> {
        *self.configuration.lock().unwrap() = wanted.clone();
        Box::pin(async move { Ok(wanted) })
    }
    fn running(&self) -> Running {
        Running {
            slots: 4,
            running: 1,
            draining: false,
            replicas: vec![
                replica(1, ReplicaState::Ready, ""),
                replica(2, ReplicaState::Failed, "`codex` is not on PATH"),
            ],
        }
    }
    fn is_connected(&self) -> bool {
        true
    }
}

fn replica(number: u128, state: ReplicaState, detail: &str) -> ReplicaReport {
    ReplicaReport {
        replica: ReplicaId::from_u128(number),
        tenant: Tenant::default(),
        agent: "sofia".parse().unwrap(),
        version: 7,
        state,
        detail: detail.to_owned(),
        running: 1,
    }
}

/// A mesh that knows some keys and models, and says what it was asked last.
pub(crate) struct FakeCentre {
    pub(crate) models: Mutex<Result<Vec<&'static str>, Problem>>,
    pub(crate) keys: Mutex<HashMap<&'static str, &'static str>>,
    pub(crate) is_reached: Mutex<bool>,
    pub(crate) verified: AtomicUsize,
}

impl Default for FakeCentre {
    fn default() -> Self {
        Self {
            models: Mutex::new(Ok(vec!["gpt-4", "mock"])),
            keys: Mutex::new(HashMap::from([
                ("mak_ann", "ann"),
                ("mak_bob", "bob"),
                ("mjt_joined", "ann"),
                ("mjt_another", "ann"),
            ])),
            is_reached: Mutex::new(true),
            verified: AtomicUsize::new(0),
        }
    }
}

impl Centre for FakeCentre {
    fn models(&self) -> BoxFuture<'_, Result<ModelList, Problem>> {
        let names = self.models.lock().unwrap().clone();
        let view = |name: &str| ModelView {
            name: name.to_owned(),
            provider: "openai".to_owned(),
            available: true,
        };
        Box::pin(async move {
            names.map(|names| ModelList {
                items: names.into_iter().map(view).collect(),
            })
        })
    }

    /// Repeats what it was told, in two pieces after a try in vain.
    fn chat<'a>(
        &'a self,
        request: CompleteRequest,
        on_chunk: &'a mut (dyn FnMut(Chunk) + Send),
    ) -> BoxFuture<'a, Result<Completion, Problem>> {
        Box::pin(async move {
            let text = request.messages.last().unwrap().content.plain_text();
            for chunk in [
                Chunk::Attempt(1),
                Chunk::Text("void".to_owned()),
                Chunk::Attempt(2),
                Chunk::Text("You said: ".to_owned()),
                Chunk::Text(text.clone()),
            ] {
                on_chunk(chunk);
                tokio::task::yield_now().await;
            }
            Ok(serde_json::from_value(json!({
                "text": format!("You said: {text}"), "model": request.model, "provider": "mock",
                "usage": {"input_tokens": 3, "output_tokens": 5}, "finish_reason": "stop", "attempt": 2
            }))
            .unwrap())
        })
    }

    fn verify<'a>(&'a self, credential: &'a Secret<String>) -> BoxFuture<'a, Result<Principal, Problem>> {
        self.verified.fetch_add(1, Ordering::Relaxed);
        let owner = self.keys.lock().unwrap().get(credential.expose().as_str()).copied();
        let kind = if credential.expose().starts_with("mjt_") {
            PrincipalKind::JoinToken
        } else {
            PrincipalKind::Key
        };
        let answer = match (*self.is_reached.lock().unwrap(), owner) {
            (false, _) => Err(Problem::new(Code::Unavailable, "nobody answers")),
            (true, None) => Err(Problem::new(Code::Unauthorized, "unknown")),
            (true, Some(owner)) => Ok(Principal {
                role: None,
                scopes: Vec::new(),
                id: "key_1".to_owned(),
                kind,
                owner: owner.to_owned(),
                tenant: Tenant::default(),
            }),
        };
        Box::pin(async move { answer })
    }
}

/// Streams one word after the other, each when the test lets it.
#[derive(Clone)]
pub(crate) struct FakeOpenAi {
    pub(crate) words: Arc<Semaphore>,
    pub(crate) asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    /// Answers that are being made.
    pub(crate) open: Arc<AtomicUsize>,
}

pub(crate) const WORDS: [&str; 3] = ["Good ", "день, ", "friend."];

impl FakeOpenAi {
    /// Serves on a free port of this machine; answers the base URL.
    pub(crate) async fn start(context: &Context) -> (Self, String) {
        let fake = Self {
            words: Arc::new(Semaphore::new(0)),
            asked: Arc::default(),
            open: Arc::default(),
        };
        let app = Router::new()
            .route("/v1/chat/completions", post(complete))
            .with_state(fake.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let stop = context.shutdown.clone();
        context.tasks.spawn("fake-openai", async move {
            let serve = axum::serve(listener, app);
            let _ = stop
                .run_until_cancelled(std::future::IntoFuture::into_future(serve))
                .await;
        });
        (fake, format!("http://{address}/v1"))
    }
}

/// One answer, until its connection ends.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(fake: &FakeOpenAi) -> Self {
        fake.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&fake.open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn complete(State(fake): State<FakeOpenAi>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    fake.asked.lock().unwrap().push((headers, body));
    if model == "missing" {
        let error = json!({"error": {"message": "there is no such model"}});
        return (axum::http::StatusCode::NOT_FOUND, axum::Json(error)).into_response();
    }
    let words = futures::stream::unfold((0, Open::new(&fake)), move |(at, open)| {
        let fake = fake.clone();
        async move {
            let line = match WORDS.get(at) {
                Some(word) => {
                    fake.words.acquire().await.unwrap().forget();
                    json!({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}]}).to_string()
                }
                None if at == WORDS.len() => json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                           "usage": {"prompt_tokens": 11, "completion_tokens": 3}})
                .to_string(),
                None if at == WORDS.len() + 1 => "[DONE]".to_owned(),
                None => return None,
            };
            Some((
                Ok::<_, Infallible>(Bytes::from(format!("data: {line}\n\n"))),
                (at + 1, open),
            ))
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(words)).into_response()
}

/// Asks a server at `url` with a key that must never leave the node.
pub(crate) fn own_endpoint(url: &str) -> InferenceConfig {
    InferenceConfig {
        base_url: Some(url.to_owned()),
        api_key: Some("sk-stays-here".into()),
        ..InferenceConfig::default()
    }
}

pub(crate) fn models(config: &InferenceConfig, folder: &Path, centre: Arc<FakeCentre>) -> Arc<Models> {
    Arc::new(Models::new(config, folder, centre).unwrap())
}
