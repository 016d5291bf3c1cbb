//! The model changes: every text gets a vector of the new one in the background, while queries are answered.

use std::sync::Arc;
use std::time::Duration;

use memory::EmbedderKind;
use memory::embed::{Dimensions, HashEmbedder};
use mesh_api::execution::Empty;
use mesh_api::memory::{EmbeddingReport, EmbeddingStatus, MemoryGet, MemoryRequest, MemoryStore};
use mesh_runtime::Blocking;
use mesh_testkit::wait_until;
use mesh_types::{Id as _, MemoryId};
use serde_json::json;

use crate::embedders::Scripted;
use crate::rows::Rows;
use crate::setup::{Mesh, store};

const MEMORIES: u64 = 150;

async fn status(mesh: &Mesh, tenant: &str) -> EmbeddingReport {
    let caller = mesh.caller(tenant);
    mesh.context
        .bus
        .call::<EmbeddingStatus>(&caller, &Empty {})
        .await
        .unwrap()
}

/// Name and number of vectors of each model.
fn models(report: &EmbeddingReport) -> Vec<(&str, u32, u64)> {
    let models = report.models.iter();
    models
        .map(|model| (model.model.as_str(), model.dimensions, model.vectors))
        .collect()
}

/// Memories of tenant `default`, and one of tenant `other`.
async fn filled() -> Mesh {
    let mesh = Mesh::start_with(Scripted::new("a", Dimensions::D384), |_| ()).await;
    for number in 0..MEMORIES - 1 {
        mesh.store(&format!("note {number} about station {}", number * 7)).await;
    }
    mesh.store("jasmine tea for Anna").await;
    let one = store(json!({"agent": "sofia", "content": "the other tenant's tea"}));
    let other = mesh.caller("other");
    mesh.context.bus.call::<MemoryStore>(&other, &one).await.unwrap();
    assert_eq!(models(&status(&mesh, "default").await), [("a", 384, MEMORIES)]);
    mesh
}

async fn wait_until_done(mesh: &Mesh, wanted: &[(&str, u32, u64)]) {
    let is_done = || async {
        let report = status(mesh, "default").await;
        report.progress == 1.0 && models(&report) == wanted
    };
    wait_until(Duration::from_secs(60), is_done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_models_vectors_are_made_while_queries_are_answered() {
    let mut mesh = filled().await;
    let b = Scripted::new("b", Dimensions::D768);
    b.set_down(true);
    mesh.serve_instead(b.clone(), |_| ()).await;
    let is_queued = || async {
        let report = status(&mesh, "default").await;
        report.waiting == MEMORIES && !report.available
    };
    wait_until(Duration::from_secs(30), is_queued).await;
    let report = status(&mesh, "default").await;
    assert_eq!(
        (report.current.as_str(), report.dimensions, report.progress),
        ("b", 768, 0.0)
    );
    // By words, since nothing has a vector of `b` yet; the old vectors stay.
    let hits = mesh.query(json!({"agent": "sofia", "query": "which tea?"})).await;
    assert_eq!(hits[0].memory.content, "jasmine tea for Anna");
    assert!(!hits[0].memory.embedded && hits[0].scores.vector.is_none());
    assert_eq!(models(&report), [("a", 384, MEMORIES)]);
    b.set_down(false);
    wait_until_done(&mesh, &[("b", 768, MEMORIES)]).await;
    let hits = mesh
        .query(json!({"agent": "sofia", "query": "jasmine tea for Anna"}))
        .await;
    assert!(
        hits[0].memory.embedded && hits[0].scores.vector.is_some_and(|score| score > 0.99),
        "{hits:?}"
    );
    let is_other_done = || async { models(&status(&mesh, "other").await) == [("b", 768, 1)] };
    wait_until(Duration::from_secs(30), is_other_done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_vectors_stay_where_the_configuration_says_so() {
    let mut mesh = filled().await;
    let b = Scripted::new("b", Dimensions::D384);
    mesh.serve_instead(b, |config| config.keep_old_vectors = true).await;
    wait_until_done(&mesh, &[("a", 384, MEMORIES), ("b", 384, MEMORIES)]).await;
}

/// Weights or an address went missing: what a real model made, perhaps for money, is not given up for that.
#[tokio::test(flavor = "multi_thread")]
async fn hashes_that_stand_in_leave_the_vectors_of_a_real_model() {
    let mut mesh = filled().await;
    let hashes = Arc::new(HashEmbedder::new(Blocking::default()));
    mesh.serve_instead(hashes, |config| config.embedder = EmbedderKind::Auto)
        .await;
    wait_until_done(&mesh, &[("a", 384, MEMORIES), ("hash-384", 384, MEMORIES)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_models_that_is_taken_back_leaves_nothing_behind() {
    let mut mesh = filled().await;
    let b = Scripted::new("b", Dimensions::D768);
    mesh.serve_instead(b.clone(), |_| ()).await;
    // Stored with `b`'s vector, whatever became of the others'.
    mesh.store("a violin concert on Sunday").await;
    mesh.serve_instead(Scripted::new("a", Dimensions::D384), |_| ()).await;
    wait_until_done(&mesh, &[("a", 384, MEMORIES + 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_the_model_refuses_holds_nobody_up_and_another_model_gets_it() {
    let a = Scripted::refusing("poison", "a", Dimensions::D384);
    let mut mesh = Mesh::start_with(a.clone(), |_| ()).await;
    a.set_down(true);
    let mut good = Vec::new();
    for number in 0..5 {
        good.push(mesh.store(&format!("good note number {number}")).await.id);
    }
    let bad = mesh.store("a bottle of poison").await;
    a.set_down(false);
    let are_good_embedded = || async {
        let mut all = true;
        for id in &good {
            all &= mesh.ask::<MemoryGet>(MemoryRequest { id: *id }).await.unwrap().embedded;
        }
        // What was refused for good does not count as waiting.
        all && status(&mesh, "default").await.waiting == 0
    };
    wait_until(Duration::from_secs(30), are_good_embedded).await;
    let kept = mesh.ask::<MemoryGet>(MemoryRequest { id: bad.id }).await.unwrap();
    assert!(!kept.embedded);
    let hits = mesh.query(json!({"agent": "sofia", "query": "bottle"})).await;
    assert_eq!(hits[0].memory.id, bad.id);
    // The tenant is done with `a`, so the next model begins anew.
    mesh.serve_instead(Scripted::new("b", Dimensions::D1024), |_| ()).await;
    wait_until_done(&mesh, &[("b", 1_024, 6)]).await;
    assert!(
        mesh.ask::<MemoryGet>(MemoryRequest { id: bad.id })
            .await
            .unwrap()
            .embedded
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replaced_while_it_is_queued_for_another_model_holds_nobody_up() {
    let mut mesh = Mesh::start_with(Scripted::new("a", Dimensions::D384), |_| ()).await;
    let old = mesh.store("Anna lives in Kyiv").await;
    let new = mesh.store("Anna lives in Lviv").await;
    // As a store does it that replaces a memory, and has not committed yet.
    let pool = mesh.database.pool().await;
    let uuid = |id: MemoryId| format!("{:032x}", id.as_u128());
    let mut tx = pool.begin().await.unwrap();
    sqlx::query("UPDATE memory.memory SET superseded_by = $2::uuid WHERE id = $1::uuid")
        .bind(uuid(old.id))
        .bind(uuid(new.id))
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("DELETE FROM memory.memory_vector_384 WHERE item = $1::uuid")
        .bind(uuid(old.id))
        .execute(&mut *tx)
        .await
        .unwrap();
    mesh.serve_instead(Scripted::new("b", Dimensions::D768), |_| ()).await;
    let is_anyone_waiting = || async {
        let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock')";
        sqlx::query_scalar(waiting).fetch_one(&pool).await.unwrap()
    };
    wait_until(Duration::from_secs(30), is_anyone_waiting).await;
    tx.commit().await.unwrap();
    wait_until_done(&mesh, &[("b", 768, 1)]).await;
    assert_eq!(status(&mesh, "default").await.waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_with_another_model_stores_last_is_embedded_too() {
    let mut mesh = Mesh::start_with(Scripted::new("a", Dimensions::D384), |_| ()).await;
    let first = mesh.store("jasmine tea for Anna").await;
    mesh.serve_instead(Scripted::new("b", Dimensions::D384), |_| ()).await;
    wait_until_done(&mesh, &[("b", 384, 1)]).await;
    // As the process before stores it that is about to be stopped: it does not come to look at the tenant again.
    let pool = mesh.database.pool().await;
    let mut late = Rows::new(pool)
        .put(&first.agent, "agent", &["coffee for Bohdan".to_owned()])
        .await;
    let late = late.remove(0);
    let is_embedded = || async {
        let report = status(&mesh, "default").await;
        report.progress == 1.0 && models(&report) == [("b", 384, 2)]
    };
    wait_until(Duration::from_secs(30), is_embedded).await;
    assert!(
        mesh.ask::<MemoryGet>(MemoryRequest { id: late })
            .await
            .unwrap()
            .embedded
    );
}
