//! The neighbours: registry, inference, messaging, memory, as small as the tests need. They count what is asked of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mesh_api::Page;
use mesh_api::fleet::NodeGet;
use mesh_api::identity::{AuditEntry, AuditNote, AuditNoted};
use mesh_api::inference::{Chunk, Complete, CompleteRequest, Completion};
use mesh_api::inference::{PromptMessage, Role};
use mesh_api::journal::Usage;
use mesh_api::memory::{Memory, MemoryQuery, MemoryStore, QueryReply, Scope, StoreRequest};
use mesh_api::messaging::{ChannelHistory, History, Message, MessagePost, PostRequest};
use mesh_api::registry::{
    AgentResolve, AgentVersions, Artifact, ArtifactGet, Pointer, ResolveRequest, VersionView, VersionsRequest,
};
use mesh_bus::{Bus, ChunkSink, ServiceHandle};
use mesh_types::{Code, Id, MemoryId, Problem, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// A model of the name `calls:3` calls the first tool three times, one after the other, and then answers.
const CALLS: &str = "calls:";

/// An agent whose model has this name is answered only when the test says so.
pub(crate) const SLOW: &str = "slow";

pub(crate) struct World {
    pointers: Mutex<HashMap<(String, String), Pointer>>,
    artifacts: Mutex<HashMap<String, String>>,
    /// How often each step's model was called, by `<invocation>/<step>`.
    pub(crate) completions: Mutex<BTreeMap<String, usize>>,
    /// What each step's model was asked last, by the same key.
    pub(crate) asked: Mutex<BTreeMap<String, CompleteRequest>>,
    /// Models that call tools fail instead of giving their answer.
    pub(crate) is_failing: AtomicBool,
    versions: Mutex<Vec<(String, VersionView)>>,
    /// How often each message was posted, by its id.
    pub(crate) posts: Mutex<BTreeMap<String, usize>>,
    pub(crate) resolved: AtomicUsize,
    /// Model calls that are held back now.
    pub(crate) held: AtomicUsize,
    /// Most model calls at the same time.
    pub(crate) most: AtomicUsize,
    running: AtomicUsize,
    gate: Semaphore,
    /// What was told to the audit.
    pub(crate) notes: Mutex<Vec<AuditEntry>>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            pointers: Mutex::default(),
            artifacts: Mutex::default(),
            completions: Mutex::default(),
            asked: Mutex::default(),
            is_failing: AtomicBool::new(false),
            versions: Mutex::default(),
            posts: Mutex::default(),
            resolved: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            notes: Mutex::default(),
        }
    }
}

impl World {
    pub(crate) async fn serve(self: &Arc<Self>, bus: &Bus) -> Vec<ServiceHandle> {
        let (resolve, artifact, versions) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let registry = bus
            .service("registry", "0.1.0")
            .endpoint::<AgentResolve, _, _>(move |_, request| std::future::ready(resolve.resolve(&request)))
            // Nobody's nodes.
            .endpoint::<NodeGet, _, _>(|_, _| std::future::ready(Err(Problem::new(Code::NodeNotFound, "no such node"))))
            .endpoint::<AgentVersions, _, _>(move |_, request| std::future::ready(Ok(versions.versions(&request))))
            .endpoint::<ArtifactGet, _, _>(move |_, request| {
                let bytes = artifact.artifacts.lock().unwrap().get(&request.hash).cloned();
                let missing = || Problem::new(Code::ArtifactNotFound, "no such artifact");
                std::future::ready(
                    bytes
                        .map(|bytes| Artifact {
                            hash: request.hash,
                            bytes,
                        })
                        .ok_or_else(missing),
                )
            });
        let model = Arc::clone(self);
        let inference = bus
            .service("inference", "0.1.0")
            .stream_endpoint::<Complete, _, _>(move |_, request, sink| {
                let world = Arc::clone(&model);
                async move { world.complete(request, sink).await }
            });
        let post = Arc::clone(self);
        let messaging = bus
            .service("messaging", "0.1.0")
            .endpoint::<ChannelHistory, _, _>(|_, _| {
                std::future::ready(Ok(History {
                    items: Vec::new(),
                    next: None,
                }))
            })
            .endpoint::<MessagePost, _, _>(move |_, request| std::future::ready(Ok(post.post(request))));
        let memory = bus
            .service("memory", "0.1.0")
            .endpoint::<MemoryQuery, _, _>(|_, _| {
                std::future::ready(Ok(QueryReply {
                    items: Vec::new(),
                    knowledge: Vec::new(),
                    degraded: None,
                }))
            })
            .endpoint::<MemoryStore, _, _>(|_, request| std::future::ready(Ok(remembered(request))));
        let noted = Arc::clone(self);
        let identity = bus
            .service("identity", "0.1.0")
            .endpoint::<AuditNote, _, _>(move |_, entry| {
                noted.notes.lock().unwrap().push(entry);
                std::future::ready(Ok(AuditNoted {}))
            });
        let mut handles = Vec::new();
        for service in [registry, inference, messaging, memory, identity] {
            handles.push(service.start().await.unwrap());
        }
        handles
    }

    /// Publishes version 1 of an agent, as the registry would.
    pub(crate) fn publish(&self, tenant: &str, agent: &str, spec: &Value) {
        let hash = self.artifact(spec);
        let pointer = Pointer {
            tenant: tenant.parse().unwrap(),
            agent: agent.parse().unwrap(),
            version: 1,
            hash,
        };
        self.pointers
            .lock()
            .unwrap()
            .insert((tenant.to_owned(), agent.to_owned()), pointer);
    }

    /// The hash of an artifact that is there.
    pub(crate) fn artifact(&self, spec: &Value) -> String {
        let bytes = spec.to_string();
        let hash = hex::encode(Sha256::digest(&bytes));
        self.artifacts.lock().unwrap().insert(hash.clone(), bytes);
        hash
    }

    /// Version `version` of an agent; it is not the published one.
    pub(crate) fn add_version(&self, agent: &str, version: u32, spec: &Value) {
        let hash = self.artifact(spec);
        let view = VersionView {
            version,
            hash,
            created_at: Timestamp::EPOCH,
            created_by: "user:ann".into(),
            current: false,
            spec: serde_json::from_value(spec.clone()).unwrap(),
        };
        self.versions.lock().unwrap().push((agent.to_owned(), view));
    }

    fn versions(&self, request: &VersionsRequest) -> Page<VersionView> {
        let all = self.versions.lock().unwrap();
        let own = all.iter().filter(|(agent, _)| *agent == request.agent.as_str());
        Page {
            items: own.map(|(_, view)| view.clone()).collect(),
            next: None,
        }
    }

    /// The whole prompt of a step, as its model was asked.
    pub(crate) fn prompt(&self, id: mesh_types::InvocationId, step: u32) -> Vec<PromptMessage> {
        self.asked.lock().unwrap()[&format!("{id}/{step}")].messages.clone()
    }

    /// Lets so many held model calls go on.
    pub(crate) fn let_go(&self, calls: usize) {
        self.gate.add_permits(calls);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Every step's model was asked once.
    pub(crate) fn assert_each_completion_ran_once(&self, count: usize) {
        let completions = self.completions.lock().unwrap();
        assert_eq!(completions.len(), count, "{completions:?}");
        assert!(completions.values().all(|times| *times == 1), "{completions:?}");
    }

    fn resolve(&self, request: &ResolveRequest) -> Result<Pointer, Problem> {
        self.resolved.fetch_add(1, Ordering::SeqCst);
        let place = (request.tenant.to_string(), request.agent.to_string());
        let missing =
            || Problem::new(Code::AgentNotFound, format!("no agent {}", request.agent)).next("mesh get agents");
        self.pointers.lock().unwrap().get(&place).cloned().ok_or_else(missing)
    }

    async fn complete(&self, request: CompleteRequest, sink: ChunkSink<Chunk>) -> Result<Completion, Problem> {
        let key = request.idempotency_key.clone().unwrap_or_default();
        *self.completions.lock().unwrap().entry(key.clone()).or_default() += 1;
        self.asked.lock().unwrap().insert(key, request.clone());
        if let Some(calls) = request.model.strip_prefix(CALLS) {
            return self.call(&request, calls.parse().unwrap());
        }
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        for chunk in [
            Chunk::Attempt(1),
            Chunk::Text("Hello".into()),
            Chunk::Text(", world".into()),
        ] {
            let _ = sink.send(chunk).await;
        }
        if request.model == SLOW {
            // Given back also when the call is dropped with its caller.
            let _held = Held::new(&self.held);
            let gate = self.gate.acquire().await.unwrap();
            gate.forget();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(completion(request.model, Vec::new()))
    }

    fn call(&self, request: &CompleteRequest, calls: usize) -> Result<Completion, Problem> {
        let results = request
            .messages
            .iter()
            .filter(|message| message.role == Role::Tool)
            .count();
        if results < calls {
            let name = &request.tools[0]["function"]["name"];
            let arguments = if name == "now" {
                json!({})
            } else {
                json!({"n": results})
            }
            .to_string();
            let call = json!({
                "id": format!("call-{results}"), "type": "function", "function": {"name": name, "arguments": arguments},
            });
            return Ok(completion(request.model.clone(), vec![call]));
        }
        if self.is_failing.load(Ordering::SeqCst) {
            return Err(Problem::new(Code::ModelFailed, "its provider is ill"));
        }
        Ok(completion(request.model.clone(), Vec::new()))
    }

    fn post(&self, request: PostRequest) -> Message {
        let id = request.id.expect("the agent loop names its messages");
        *self.posts.lock().unwrap().entry(id.to_string()).or_default() += 1;
        Message {
            id,
            channel_id: request.channel,
            author: request.author,
            text: request.text,
            content: request.content,
            metadata: request.metadata,
            created_at: Timestamp::EPOCH,
        }
    }
}

fn completion(model: String, tool_calls: Vec<Value>) -> Completion {
    let is_answer = tool_calls.is_empty();
    Completion {
        text: if is_answer { "Hello, world" } else { "" }.into(),
        model,
        provider: "fake".into(),
        usage: Usage {
            input_tokens: 3,
            output_tokens: 2,
            cost_usd: 0.5,
        },
        usage_estimated: false,
        failed: Vec::new(),
        tool_calls,
        finish_reason: if is_answer { "stop" } else { "tool_calls" }.into(),
        attempt: 1,
        cached_tokens: 0,
        from_cache: false,
    }
}

/// Counts a call that is held back.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn remembered(request: StoreRequest) -> Memory {
    Memory {
        id: request.id.unwrap_or_else(|| MemoryId::from_u128(1)),
        agent: request.agent,
        kind: request.kind,
        content: request.content,
        tags: request.tags,
        importance: request.importance,
        source: request.source,
        metadata: request.metadata,
        embedded: true,
        scope: Scope::Agent,
        session: None,
        user: None,
        version: 1,
        seen: 1,
        superseded_by: None,
        expires_at: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}
