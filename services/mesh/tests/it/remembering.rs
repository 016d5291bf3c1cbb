//! A real gateway with a `memory` of the test's own behind it, which notes what it was asked and answers in its shape.

use std::future::{Ready, ready};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::knowledge::*;
use mesh_api::memory::*;
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bus, BusOptions, ServiceHandle};
use mesh_runtime::{Context, Metrics};
use mesh_testkit::TestNats;
use mesh_types::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{program, text, told};

pub(crate) const ID: &str = "mem_01ARZ3NDEKTSV4RRFFQ69G5FAV";
pub(crate) const DOCUMENT: &str = "doc_01ARZ3NDEKTSV4RRFFQ69G5FAV";
pub(crate) const RECEIPT: &str = "rcp_01ARZ3NDEKTSV4RRFFQ69G5FAV";
const INVOCATION: &str = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
const AT: &str = "2026-11-21T12:00:00Z";

type Asked = Arc<Mutex<Vec<(String, Value)>>>;

pub(crate) struct World {
    asked: Asked,
    url: String,
    context: Context,
    _service: ServiceHandle,
    _nats: TestNats,
}

fn answer<E: Endpoint>(
    asked: &Asked,
    make: fn(&Value) -> Result<Value, Problem>,
) -> impl Fn(Caller, E::Request) -> Ready<Result<E::Reply, Problem>> + Clone + Send + Sync + 'static
where
    E::Request: serde::Serialize,
    E::Reply: DeserializeOwned,
{
    let asked = Arc::clone(asked);
    move |_, request| {
        let request = serde_json::to_value(request).unwrap();
        asked.lock().unwrap().push((E::NAME.to_owned(), request.clone()));
        ready(make(&request).map(|reply| serde_json::from_value(reply).unwrap()))
    }
}

fn memory() -> Value {
    json!({
        "id": ID, "agent": "sofia", "type": "semantic", "content": "Ann prefers \u{1b}[31mtea", "tags": ["drinks"],
        "importance": 0.8, "scope": "user", "user": "ann", "source": null, "embedded": false, "version": 2, "seen": 3,
        "created_at": AT, "updated_at": AT,
    })
}

fn document(embedded: u32) -> Value {
    json!({
        "id": DOCUMENT, "base": "handbook", "name": "leave.md", "media_type": "text/markdown", "version": 2,
        "sha256": "0".repeat(64), "bytes": 40, "state": if embedded == 4 { "ready" } else { "embedding" },
        "chunks": 4, "embedded": embedded, "kept": 3, "created_at": AT, "updated_at": AT,
    })
}

fn hit() -> Value {
    let citation = json!({
        "document": DOCUMENT, "base": "handbook", "name": "leave.md", "version": 2, "headings": ["Leave", "How much"],
        "start": 10, "end": 52,
    });
    json!({"text": "Thirty days a year.", "citation": citation, "score": 0.9, "scores": {"vector": 0.8, "text": null}})
}

/// A receipt; two match whatever is asked for but one user of whom nothing is known.
fn receipt(request: &Value) -> Value {
    let forgotten = if request["filter"]["user"] == "nobody" { 0 } else { 2 };
    json!({
        "id": RECEIPT, "forgotten": forgotten, "derived": 1, "ids_sha256": "ab".repeat(32), "at": AT, "by": "dev",
        "dry_run": request["dry_run"] == true,
    })
}

impl World {
    pub(crate) async fn start() -> Self {
        let nats = TestNats::start().await;
        let options = BusOptions {
            url: nats.url().to_owned(),
            name: "mesh-test".into(),
            monitor_url: None,
            user: None,
        };
        let bus = Bus::connect(options).await.unwrap();
        assert!(bus.wait_connected(Duration::from_secs(10)).await);
        let asked = Asked::default();
        let service = Self::memory(&asked, &bus).start().await.unwrap();
        let context = Context::new("gateway", bus, Metrics::default());
        let config = gateway::Config {
            port: 0,
            ..gateway::Config::default()
        };
        let edge = gateway::Gateway::bind(config).await.unwrap();
        let url = format!("http://{}", edge.address());
        let serving = context.clone();
        context.tasks.spawn("edge", async move {
            edge.serve(serving).await.unwrap();
        });
        Self {
            asked,
            url,
            context,
            _service: service,
            _nats: nats,
        }
    }

    fn memory(asked: &Asked, bus: &Bus) -> mesh_bus::ServiceBuilder {
        let service = bus
            .service("memory", "0.1.0")
            .endpoint::<MemoryStore, _, _>(answer::<MemoryStore>(asked, |_| Ok(memory())))
            .endpoint::<MemoryList, _, _>(answer::<MemoryList>(asked, |_| {
                Ok(json!({"items": [memory()], "next": null}))
            }))
            .endpoint::<MemoryQuery, _, _>(answer::<MemoryQuery>(asked, |request| {
                let scores = json!({"vector": 0.5, "vector_rank": 1, "text": 0.25, "text_rank": 4, "fusion": 0.96});
                let knowledge = request["knowledge"].as_array().map_or(Vec::new(), |_| vec![hit()]);
                let items = [json!({"memory": memory(), "score": 0.875, "scores": scores})];
                Ok(json!({"items": items, "knowledge": knowledge, "degraded": "the embedder is not available"}))
            }))
            .endpoint::<MemoryGet, _, _>(answer::<MemoryGet>(asked, |request| {
                if request["id"] == ID {
                    Ok(memory())
                } else {
                    Err(Problem::new(Code::MemoryNotFound, "no such"))
                }
            }))
            .endpoint::<MemoryHistory, _, _>(answer::<MemoryHistory>(asked, |_| {
                let before = json!({"version": 1, "content": "Ann prefers coffee", "tags": [], "importance": 0.5,
                    "changed_at": AT, "changed_by": "user:ann"});
                Ok(json!({"memory": memory(), "items": [before]}))
            }))
            .endpoint::<MemoryErase, _, _>(answer::<MemoryErase>(asked, |request| Ok(receipt(request))))
            .endpoint::<EmbeddingStatus, _, _>(answer::<EmbeddingStatus>(asked, |_| {
                let models = [("minilm", 30), ("older", 90)];
                let models =
                    models.map(|(name, vectors)| json!({"model": name, "dimensions": 384, "vectors": vectors}));
                Ok(
                    json!({"current": "minilm", "dimensions": 384, "available": true, "loaded": true, "models": models,
                    "waiting": 60, "progress": 0.333}),
                )
            }))
            .endpoint::<MemoryConsolidate, _, _>(answer::<MemoryConsolidate>(asked, |request| {
                let enough = request["at_least"].as_u64() < Some(10);
                Ok(json!({"invocation": enough.then_some(INVOCATION), "memories": 7}))
            }));
        Self::knowledge(asked, service)
    }

    fn knowledge(asked: &Asked, service: mesh_bus::ServiceBuilder) -> mesh_bus::ServiceBuilder {
        service
            .endpoint::<KnowledgeAdd, _, _>(answer::<KnowledgeAdd>(asked, |_| Ok(document(3))))
            .endpoint::<KnowledgeGet, _, _>(answer::<KnowledgeGet>(asked, |_| Ok(document(4))))
            .endpoint::<KnowledgeList, _, _>(answer::<KnowledgeList>(asked, |_| {
                Ok(json!({"items": [document(1)], "next": null}))
            }))
            .endpoint::<KnowledgeText, _, _>(answer::<KnowledgeText>(asked, |_| {
                Ok(json!({"document": document(4), "text": "# Leave\n  Thirty\u{7} days.", "chunks": []}))
            }))
            .endpoint::<KnowledgeSearch, _, _>(answer::<KnowledgeSearch>(asked, |_| Ok(json!({"items": [hit()]}))))
            .endpoint::<KnowledgeDelete, _, _>(answer::<KnowledgeDelete>(asked, |request| {
                Ok(json!({"id": request["id"], "chunks": 4}))
            }))
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = program();
        command.args(arguments).args(["--url", &self.url]).env("COLUMNS", "100");
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// What a command that must succeed printed, result and remarks.
    pub(crate) async fn done(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments).await;
        assert!(
            output.status.success(),
            "mesh {}: {}",
            arguments.join(" "),
            told(&output)
        );
        let (result, remarks) = (text(&output.stdout), text(&output.stderr));
        assert!(
            !result.contains('\u{1b}'),
            "neither colours nor what others wrote steer a pipe: {result:?}"
        );
        (result, remarks)
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let (result, _) = self.done(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&result).unwrap()
    }

    /// The last thing that an endpoint was asked.
    pub(crate) fn last(&self, endpoint: &str) -> Value {
        let asked = self.asked.lock().unwrap();
        let last = asked.iter().rev().find(|(name, _)| name == endpoint);
        last.unwrap_or_else(|| panic!("{endpoint} was not asked")).1.clone()
    }

    pub(crate) fn count(&self, endpoint: &str) -> usize {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| name == endpoint)
            .count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}
