//! The embedder fails: memories are taken all the same, found by their words, embedded later.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_api::memory::{MemoryChange, MemoryGet, MemoryRequest, MemoryUpdate, UpdateRequest};
use mesh_testkit::wait_until;
use serde_json::json;

use crate::embedders::{Slow, Switched};
use crate::setup::Mesh;

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_without_a_vector_is_found_by_its_words_and_gets_one_later() {
    let (embedder, is_down) = Switched::new();
    let mesh = Mesh::start_with(embedder, |_| ()).await;
    mesh.store("the violin concert is on Sunday").await;
    is_down.store(true, Ordering::SeqCst);
    let taken = mesh.store("jasmine tea for Anna").await;
    assert!(!taken.embedded);
    let down = mesh.query(json!({"agent": "sofia", "query": "which tea?"})).await;
    assert_eq!(
        down.len(),
        1,
        "without a vector of the query only words count: {down:?}"
    );
    assert_eq!((down[0].memory.id, down[0].scores.vector), (taken.id, None));
    assert!(
        down[0].score > 0.0 && down[0].scores.text.is_some_and(|words| words > 0.0),
        "{down:?}"
    );
    assert!(
        mesh.query(json!({"agent": "sofia", "query": "concert"})).await[0]
            .memory
            .embedded
    );
    is_down.store(false, Ordering::SeqCst);
    let is_embedded = || async {
        mesh.ask::<MemoryGet>(MemoryRequest { id: taken.id })
            .await
            .unwrap()
            .embedded
    };
    wait_until(Duration::from_secs(30), is_embedded).await;
    let up = mesh.query(json!({"agent": "sofia", "query": "which tea?"})).await;
    assert_eq!((up.len(), up[0].memory.id), (2, taken.id));
    assert!(up[0].scores.vector.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_vector_yet_is_found_beside_what_has_one() {
    let (embedder, is_down) = Switched::new();
    // The loop does not come in between.
    let mesh = Mesh::start_with(embedder, |config| config.embed_retry_ms = 60_000).await;
    mesh.store("the violin concert is on Sunday").await;
    is_down.store(true, Ordering::SeqCst);
    let taken = mesh.store("jasmine tea for Anna").await;
    is_down.store(false, Ordering::SeqCst);
    let hits = mesh.query(json!({"agent": "sofia", "query": "jasmine tea"})).await;
    assert_eq!(hits.len(), 2);
    assert_eq!((hits[0].memory.id, hits[0].memory.embedded), (taken.id, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_content_without_a_vector_drops_the_old_one() {
    let (embedder, is_down) = Switched::new();
    let mesh = Mesh::start_with(embedder, |_| ()).await;
    let before = mesh.store("the violin concert is on Sunday").await;
    is_down.store(true, Ordering::SeqCst);
    let change = MemoryChange {
        content: Some("jasmine tea for Anna".into()),
        ..MemoryChange::default()
    };
    let changed = mesh
        .ask::<MemoryUpdate>(UpdateRequest { id: before.id, change })
        .await
        .unwrap();
    assert!(before.embedded && !changed.embedded);
    is_down.store(false, Ordering::SeqCst);
    let is_near = || async {
        let hits = mesh
            .query(json!({"agent": "sofia", "query": "jasmine tea for Anna"}))
            .await;
        hits[0].scores.vector.is_some_and(|score| score > 0.99)
    };
    wait_until(Duration::from_secs(30), is_near).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_content_is_embedded_though_the_old_one_is_refused_after_the_change() {
    let embedder = Slow::new();
    let mesh = Mesh::start_with(embedder.clone(), |_| ()).await;
    let before = mesh.store("a bottle of poison").await;
    let is_asked = || async { embedder.is_asked.load(Ordering::SeqCst) };
    wait_until(Duration::from_secs(30), is_asked).await;
    let change = MemoryChange {
        content: Some("a bottle of milk".into()),
        ..MemoryChange::default()
    };
    let id = before.id;
    let changed = mesh.ask::<MemoryUpdate>(UpdateRequest { id, change }).await.unwrap();
    assert!(!changed.embedded);
    embedder.may_refuse.add_permits(1);
    let is_embedded = || async { mesh.ask::<MemoryGet>(MemoryRequest { id }).await.unwrap().embedded };
    wait_until(Duration::from_secs(30), is_embedded).await;
}
