//! The local model in the service: loaded by the first request, given back when idle, found by meaning.

use std::sync::Arc;
use std::time::Duration;

use memory::embed::{Embedder, LocalEmbedder, LocalOptions};
use memory::{Config, EmbedderKind};
use mesh_api::execution::Empty;
use mesh_api::memory::{EmbeddingReport, EmbeddingStatus};
use mesh_testkit::{embedder_weights, wait_until};
use serde_json::json;

use crate::setup::Mesh;

fn local(config: &mut Config) {
    config.embedder = EmbedderKind::Local;
    config.embedding_weights = Some(embedder_weights());
    // A debug build on a busy machine.
    config.embed_timeout_ms = 30_000;
}

async fn status(mesh: &Mesh) -> EmbeddingReport {
    mesh.ask::<EmbeddingStatus>(Empty {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_is_found_by_its_meaning_without_a_common_word() {
    let mesh = Mesh::start_as_configured(local).await;
    let before = status(&mesh).await;
    assert_eq!((before.current.as_str(), before.dimensions), ("all-minilm-l6-v2", 384));
    assert_eq!((before.loaded, before.progress), (Some(false), 1.0));
    mesh.store("Anna takes jasmine tea every morning").await;
    mesh.store("The violin recital moved to Sunday").await;
    mesh.store("Invoice 4411 is overdue since March").await;
    let hits = mesh
        .query(json!({"agent": "sofia", "query": "favourite drink at breakfast", "k": 3}))
        .await;
    assert_eq!(hits[0].memory.content, "Anna takes jasmine tea every morning");
    let hits = mesh
        .query(json!({"agent": "sofia", "query": "unpaid bill", "k": 3}))
        .await;
    assert!(hits[0].memory.content.starts_with("Invoice"), "{hits:?}");
    let after = status(&mesh).await;
    assert_eq!((after.loaded, after.available, after.waiting), (Some(true), true, 0));
    assert_eq!((after.models.len(), after.models[0].vectors), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_given_back_when_idle_and_loaded_again() {
    let mesh = Mesh::start_as_configured(|config| {
        local(config);
        config.embed_idle_unload_seconds = 1;
        config.embed_cache_bytes = 0;
    })
    .await;
    assert!(mesh.store("jasmine tea").await.embedded);
    assert_eq!(status(&mesh).await.loaded, Some(true));
    let is_unloaded = || async { status(&mesh).await.loaded == Some(false) };
    wait_until(Duration::from_secs(30), is_unloaded).await;
    assert!(mesh.store("a violin concert").await.embedded);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_that_vanish_leave_memories_that_are_found_by_words_and_embedded_later() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "sentence_bert_config.json",
    ];
    for name in names {
        std::fs::copy(embedder_weights().join(name), folder.path().join(name)).unwrap();
    }
    let (weights, away) = (folder.path().join("model.safetensors"), folder.path().join("away"));
    let mesh = Mesh::start_as_configured(|config| {
        local(config);
        config.embedding_weights = Some(folder.path().to_owned());
    })
    .await;
    // Not loaded yet: the first request fails to.
    status(&mesh).await;
    std::fs::rename(&weights, &away).unwrap();
    let taken = mesh.store("jasmine tea for Anna").await;
    assert!(!taken.embedded);
    let broken = status(&mesh).await;
    assert!(!broken.available && broken.error.unwrap().contains("model.safetensors"));
    assert_eq!((broken.waiting, broken.progress), (1, 0.0));
    let hits = mesh.query(json!({"agent": "sofia", "query": "tea"})).await;
    assert_eq!(hits[0].memory.id, taken.id);
    std::fs::rename(&away, &weights).unwrap();
    let is_embedded = || async { status(&mesh).await.progress == 1.0 };
    wait_until(Duration::from_secs(30), is_embedded).await;
    assert!(status(&mesh).await.available);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_load_the_model_once_and_get_their_own_vectors() {
    let mesh = Mesh::start().await;
    let options = LocalOptions {
        folder: embedder_weights(),
        name: None,
        idle: Duration::from_secs(60),
    };
    let embedder = Arc::new(LocalEmbedder::open(options, &mesh.context).unwrap());
    let texts: Vec<String> = (0..40)
        .map(|i| format!("text number {i} about {}", "words ".repeat(i)))
        .collect();
    let together = embedder.embed(texts.clone()).await.unwrap();
    assert_eq!(together.len(), texts.len());
    let apart = texts.iter().map(|text| embedder.embed(vec![text.clone()]));
    let apart = futures::future::try_join_all(apart).await.unwrap();
    for (one, other) in together.iter().zip(apart) {
        let cosine: f32 = one.0.iter().zip(&other[0].0).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.9999, "{cosine}");
    }
    assert!(embedder.embed(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_a_model_is_refused_before_anything_is_served() {
    let mesh = Mesh::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = mesh.config();
    local(&mut config);
    config.embedding_weights = Some(folder.path().to_owned());
    let error = memory::run(config.clone(), mesh.context.clone())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("embedding_weights") && error.contains("config.json"),
        "{error}"
    );
    config.embedding_weights = None;
    let error = memory::run(config, mesh.context.clone()).await.unwrap_err().to_string();
    assert!(error.contains("mesh up"), "{error}");
}
