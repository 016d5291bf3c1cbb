//! The embedder behind `inference`, which is played here at its endpoint on the bus.

use std::sync::{Arc, Mutex};

use memory::EmbedderKind;
use mesh_api::execution::Empty;
use mesh_api::inference::{Embed, EmbedRequest, Embedded};
use mesh_api::memory::{EmbeddingStatus, MemoryStore};
use mesh_bus::ServiceHandle;
use mesh_types::{Code, Problem};
use serde_json::json;

use crate::setup::{Mesh, store};

type Answer = fn(&EmbedRequest) -> Result<Vec<Vec<f32>>, Problem>;
type Asked = Arc<Mutex<Vec<(String, EmbedRequest)>>>;

async fn mesh(model: &str, dimensions: Option<u32>) -> Mesh {
    Mesh::start_as_configured(|config| {
        config.embedder = EmbedderKind::Auto;
        config.embedding_model = Some(model.to_owned());
        config.embedding_dimensions = dimensions;
        // No try but those of the test.
        config.embed_retry_ms = 60_000;
    })
    .await
}

/// Plays `inference`; keeps who asked what.
async fn inference(mesh: &Mesh, answer: Answer) -> (ServiceHandle, Asked) {
    let asked = Asked::default();
    let kept = Arc::clone(&asked);
    let service = mesh.context.bus.service("inference", "0.0.0");
    let service = service.endpoint::<Embed, _, _>(move |caller: mesh_api::Caller, request: EmbedRequest| {
        let answered = answer(&request).map(|vectors| Embedded {
            model: request.model.clone(),
            provider: "fake".to_owned(),
            vectors,
            usage: mesh_api::journal::Usage::default(),
        });
        kept.lock().unwrap().push((caller.tenant.to_string(), request));
        std::future::ready(answered)
    });
    (service.start().await.unwrap(), asked)
}

fn long(request: &EmbedRequest) -> Result<Vec<Vec<f32>>, Problem> {
    // Not of length 1, as some models give them.
    Ok(request.texts.iter().map(|_| vec![3.0; 1_024]).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_texts_are_embedded_in_its_name_and_brought_to_length_1() {
    let mesh = mesh("text-embedding-3-large", Some(1_024)).await;
    let (_service, asked) = inference(&mesh, long).await;
    let caller = mesh.caller("acme");
    let request = store(json!({"agent": "sofia", "content": "jasmine tea"}));
    let stored = mesh.context.bus.call::<MemoryStore>(&caller, &request).await.unwrap();
    assert!(stored.embedded);
    let report = mesh
        .context
        .bus
        .call::<EmbeddingStatus>(&caller, &Empty {})
        .await
        .unwrap();
    assert_eq!(
        (report.current.as_str(), report.dimensions),
        ("text-embedding-3-large", 1_024)
    );
    assert_eq!(
        (report.loaded, report.available, report.models[0].vectors),
        (None, true, 1)
    );
    let (tenant, request) = asked.lock().unwrap()[0].clone();
    assert_eq!(
        (tenant.as_str(), request.model.as_str()),
        ("acme", "text-embedding-3-large")
    );
    assert_eq!((request.texts.len(), request.dimensions), (1, Some(1_024)));
    let mut tx = sqlx::postgres::PgPoolOptions::new()
        .connect(mesh.database.url())
        .await
        .unwrap()
        .begin()
        .await
        .unwrap();
    sqlx::query("SELECT set_config('mesh.tenant', 'acme', true)")
        .execute(&mut *tx)
        .await
        .unwrap();
    let length: f64 = sqlx::query_scalar("SELECT public.l2_norm(embedding) FROM memory.memory_vector_1024")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_length_are_an_error_that_names_both_numbers() {
    let mesh = mesh("my-model", Some(768)).await;
    let (_service, _) = inference(&mesh, long).await;
    assert!(!mesh.store("jasmine tea").await.embedded);
    let report = mesh.ask::<EmbeddingStatus>(Empty {}).await.unwrap();
    let error = report.error.unwrap();
    assert!(
        !report.available && error.contains("1024") && error.contains("768"),
        "{error}"
    );
    let hits = mesh.query(json!({"agent": "sofia", "query": "tea"})).await;
    assert_eq!(hits.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_leaves_memories_that_wait() {
    let mesh = mesh("nomic-embed-text", None).await;
    let (_service, _) = inference(&mesh, |_| {
        Err(Problem::new(Code::ModelFailed, "the provider is on fire"))
    })
    .await;
    assert!(!mesh.store("jasmine tea").await.embedded);
    let report = mesh.ask::<EmbeddingStatus>(Empty {}).await.unwrap();
    assert_eq!(
        (report.current.as_str(), report.dimensions, report.waiting),
        ("nomic-embed-text", 768, 1)
    );
    assert!(report.error.unwrap().contains("on fire"));
}
