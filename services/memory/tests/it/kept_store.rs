//! What kept vectors rest on: the log of changes, its horizon, and by what they are known to be of this store.

use std::sync::Arc;

use memory::embed::HashEmbedder;
use mesh_api::memory::{
    ForgetRequest, MemoryChange, MemoryErase, MemoryForget, MemoryRequest, MemoryStore, MemoryUpdate, UpdateRequest,
};
use mesh_runtime::Blocking;
use mesh_testkit::wait_until;
use mesh_types::MemoryId;
use serde_json::json;

use crate::kept::{K, MODEL, World, ann, found, ids, question};
use crate::rows::{clustered, uuid};
use crate::setup::{Mesh, store};

const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// How many rows of the log name this memory.
async fn logged(mesh: &Mesh, id: MemoryId) -> i64 {
    let pool = mesh.database.pool().await;
    let count = "SELECT count(*) FROM memory.vector_change WHERE $1::uuid = ANY (items) AND tenant = 'default'
        AND owner = 'a:sofia' AND dimensions = 384";
    sqlx::query_scalar(count)
        .bind(uuid(&id))
        .fetch_one(&pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_a_vector_comes_changes_or_goes_is_logged() {
    let mesh = Mesh::start().await;
    let first = mesh.store("Anna drinks jasmine tea").await.id;
    assert_eq!(logged(&mesh, first).await, 1);
    let change = MemoryChange {
        content: Some("Anna drinks black coffee".to_owned()),
        ..MemoryChange::default()
    };
    mesh.ask::<MemoryUpdate>(UpdateRequest { id: first, change })
        .await
        .unwrap();
    assert!(logged(&mesh, first).await >= 2, "changed");
    let before = logged(&mesh, first).await;
    let second = store(json!({"agent": "sofia", "content": "Anna drinks water", "supersedes": [first]}));
    let second = mesh.ask::<MemoryStore>(second).await.unwrap().id;
    assert_eq!(logged(&mesh, first).await, before + 1, "superseded");
    let before = logged(&mesh, second).await;
    mesh.ask::<MemoryForget>(MemoryRequest { id: second }).await.unwrap();
    assert_eq!(logged(&mesh, second).await, before + 1, "forgotten, by the cascade");
    let third = mesh.store("Bohdan plays the violin").await.id;
    let erase: ForgetRequest = serde_json::from_value(json!({"filter": {"ids": [third]}})).unwrap();
    mesh.ask::<MemoryErase>(erase).await.unwrap();
    assert_eq!(logged(&mesh, third).await, 2, "erased, by the cascade");
    let expires = store(json!({"agent": "sofia", "content": "for a moment", "ttl_seconds": 1}));
    let expires = mesh.ask::<MemoryStore>(expires).await.unwrap().id;
    wait_until(SOON, || async { logged(&mesh, expires).await == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_the_log_has_lost_are_told_by_its_horizon() {
    let mut world = World::new().await;
    world.warm().await;
    let vector = clustered(8, 1, 1).remove(0);
    let id = world.put(vector.clone()).await;
    // As if nobody had searched for minutes; another service shortens the log when it starts.
    let old = "UPDATE memory.vector_change SET at = at - interval '10 min'";
    sqlx::query(old).execute(&world.rows.pool).await.unwrap();
    let config = world.mesh.config();
    let service = world.mesh.context.for_service("memory");
    world.mesh.context.tasks.spawn("memory-2", async move {
        let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
        memory::run_with(config, service, embedder).await.unwrap();
    });
    wait_until(SOON, || async {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM memory.vector_change");
        count.fetch_one(&world.rows.pool).await.unwrap() == 0
    })
    .await;
    // Whichever of the two answers.
    for _ in 0..20 {
        let hits = found(&world.mesh, "default", &question(vector.clone(), MODEL)).await;
        assert_eq!(hits[0].memory.id, id);
    }
    world.check("after the log was shortened").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_tables_that_were_emptied_or_made_anew_are_kept_no_more() {
    let mut world = World::new().await;
    world.warm().await;
    let rewrite = "VACUUM FULL memory.memory_vector_384";
    sqlx::query(rewrite).execute(&world.rows.pool).await.unwrap();
    assert!(!world.is_kept().await);
    world.check("after the table was written anew").await;
    world.warm().await;
    let empty = "TRUNCATE memory.memory_vector_384";
    sqlx::query(empty).execute(&world.rows.pool).await.unwrap();
    world.all.clear();
    world.check("after the table was emptied").await;
    // Of an owner without any the dearer ways are asked, too.
    for vector in clustered(9, K, 3) {
        world.put(vector).await;
    }
    world.warm().await;
    // The log itself, made anew, would know of no change.
    let forgets = "TRUNCATE memory.vector_change";
    world.put(clustered(8, 1, 1).remove(0)).await;
    sqlx::query(forgets).execute(&world.rows.pool).await.unwrap();
    world.check("after the log was emptied").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_knew_is_no_obstacle_after_a_restore() {
    let mut world = World::new().await;
    for restored in [
        "INSERT INTO memory.vector_horizon (tenant, store, xid) VALUES ('default', 'elsewhere', '9000000000000')",
        "INSERT INTO memory.vector_change (tenant, owner, model, dimensions, items, xid)
            VALUES ('default', 'a:ann', 'test-384', 384, NULL, '9000000000000')",
    ] {
        sqlx::query(restored).execute(&world.rows.pool).await.unwrap();
    }
    for _ in 0..5 {
        world.check("with the other's log").await;
    }
    let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
    world.mesh.serve_instead(embedder, |_| ()).await;
    world.warm().await;
    world.check("kept").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_horizon_is_no_confirmation() {
    let mut world = World::new().await;
    world.warm().await;
    sqlx::query("DELETE FROM memory.vector_horizon")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    assert!(!world.is_kept().await);
    world.check("without a horizon").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_models_vectors_are_another_set() {
    let mut world = World::new().await;
    world.warm().await;
    let (id, vector) = world.all[7].clone();
    let asked = question(vector.clone(), "two");
    for _ in 0..5 {
        assert!(found(&world.mesh, "default", &asked).await.is_empty());
    }
    world
        .rows
        .put_vectors("two", &[id], std::slice::from_ref(&vector))
        .await;
    assert_eq!(ids(&found(&world.mesh, "default", &asked).await), [id]);
    assert!(world.is_kept().await, "of the first model nothing has changed");
    let drop = "DELETE FROM memory.memory_vector_384 WHERE model = 'test-384'";
    sqlx::query(drop).execute(&world.rows.pool).await.unwrap();
    assert!(found(&world.mesh, "default", &question(vector, MODEL)).await.is_empty());
    assert_eq!(ids(&found(&world.mesh, "default", &asked).await), [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_changes_that_none_is_named_are_read_anew() {
    let mut world = World::new().await;
    world.warm().await;
    let contents: Vec<String> = (0..1_100).map(|number| format!("many {number}")).collect();
    let ids = world.rows.put(&ann(), "agent", &contents).await;
    let vectors = clustered(30, contents.len(), 20);
    world.rows.put_vectors(MODEL, &ids, &vectors).await;
    world.all.extend(ids.into_iter().zip(vectors));
    world.check("after many at once").await;
    let unnamed = "SELECT count(*) FROM memory.vector_change WHERE items IS NULL";
    let unnamed: i64 = sqlx::query_scalar(unnamed).fetch_one(&world.rows.pool).await.unwrap();
    assert_eq!(unnamed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_without_a_budget_or_beyond_it() {
    for bytes in [0, 10_000] {
        let mut world = World::with_budget(bytes).await;
        for _ in 0..30 {
            assert!(!world.is_kept().await);
        }
        world.check("never kept").await;
    }
}
