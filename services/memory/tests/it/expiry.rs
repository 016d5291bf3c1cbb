//! What expires is deleted, told, and never comes back.

use std::time::Duration;

use mesh_api::memory::{
    ForgetRequest, MemoryChange, MemoryErase, MemoryGet, MemoryRequest, MemoryStore, MemoryUpdate, UpdateRequest,
};
use mesh_testkit::wait_until;
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;
use mesh_types::{Code, Id, MemoryId};
use serde_json::json;

use crate::setup::{Mesh, store};

const SOON: Duration = Duration::from_secs(20);

async fn rows(mesh: &Mesh) -> i64 {
    let pool = mesh.database.pool().await;
    sqlx::query_scalar("SELECT count(*) FROM memory.memory")
        .fetch_one(&pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_is_deleted_once_its_time_is_over() {
    let mesh = Mesh::start().await;
    let filter = Filter::EventsOf("default".parse().unwrap());
    let mut events = mesh.context.bus.subscribe(&filter).await.unwrap();
    let request = store(
        json!({"id": MemoryId::from_u128(3), "agent": "sofia", "content": "for a moment",
        "ttl_seconds": 1}),
    );
    let stored = mesh.ask::<MemoryStore>(request.clone()).await.unwrap();
    assert_eq!(stored.expires_at, Some(stored.created_at.plus(Duration::from_secs(1))));
    let kept = mesh.store("for good").await;
    assert_eq!(kept.expires_at, None);
    // The tick is a minute: the loop waits for the time itself.
    wait_until(SOON, || async { rows(&mesh).await == 1 }).await;
    let expired = async {
        loop {
            let message = events.next().await.unwrap();
            let event: Event = serde_json::from_slice(&message.payload).unwrap();
            if let Fact::MemoryExpired { memory, agent } = event.fact {
                return (memory, agent, event.actor);
            }
        }
    };
    let expired = tokio::time::timeout(SOON, expired).await.unwrap();
    assert_eq!(expired, (stored.id, stored.agent, "service:memory".to_owned()));
    let gone = mesh
        .ask::<MemoryGet>(MemoryRequest { id: stored.id })
        .await
        .unwrap_err();
    assert!(gone.is(Code::MemoryNotFound));
    let late = mesh.ask::<MemoryStore>(request).await.unwrap_err();
    assert!(
        late.is(Code::MemoryConflict),
        "a late repeat does not bring it back: {late:?}"
    );
    let pool = mesh.database.pool().await;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM memory.memory_vector_384 WHERE item <> $1) + (SELECT count(*) FROM memory.expiry)",
    )
    .bind(uuid::Uuid::from_u128(kept.id.as_u128()))
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn working_memories_have_a_day_and_a_change_may_give_more_or_less() {
    let mesh = Mesh::start().await;
    let working = store(json!({"agent": "sofia", "content": "on the desk", "type": "working"}));
    let stored = mesh.ask::<MemoryStore>(working).await.unwrap();
    assert_eq!(
        stored.expires_at,
        Some(stored.created_at.plus(Duration::from_secs(24 * 3600)))
    );
    let change = |ttl| {
        let change = MemoryChange {
            ttl_seconds: Some(ttl),
            ..MemoryChange::default()
        };
        mesh.ask::<MemoryUpdate>(UpdateRequest { id: stored.id, change })
    };
    let kept = change(0).await.unwrap();
    assert_eq!((kept.expires_at, kept.version), (None, 2));
    let short = change(1).await.unwrap();
    assert!(short.expires_at.is_some());
    wait_until(SOON, || async { rows(&mesh).await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_batch_of_two_tenants_expires_and_nothing_else() {
    let mesh = Mesh::start().await;
    mesh.store("for good").await;
    let pool = mesh.database.pool().await;
    // As if the service had been away when their time was over.
    for tenant in ["default", "other"] {
        let sql = "WITH old AS (
                INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, metadata, body_hash,
                    created_at, updated_at, expires_at)
                SELECT $1, gen_random_uuid(), 'sofia', 'working', 'old ' || n, '{}', 0.5, '{}', '', now(), now(), now()
                FROM generate_series(1, 700) AS n RETURNING tenant, id, expires_at
            ) INSERT INTO memory.expiry (tenant, memory, at) SELECT tenant, id, expires_at FROM old";
        sqlx::query(sql).bind(tenant).execute(&pool).await.unwrap();
    }
    // A memory with a short time wakes the loop, as any would.
    let wake = store(json!({"agent": "sofia", "content": "wake", "ttl_seconds": 30}));
    mesh.ask::<MemoryStore>(wake).await.unwrap();
    wait_until(SOON, || async { rows(&mesh).await == 2 }).await;
    let forgotten: Vec<(String, i64)> =
        sqlx::query_as("SELECT tenant, count(*) FROM memory.forgotten GROUP BY tenant ORDER BY tenant")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(forgotten, [("default".to_owned(), 700), ("other".to_owned(), 700)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_finds_what_was_made_of_its_memories_through_one_that_has_expired() {
    let mesh = Mesh::start().await;
    let put = async |value| mesh.ask::<MemoryStore>(store(value)).await.unwrap();
    let source = put(json!({"agent": "sofia", "content": "Anna's number is 42", "user": "ann"})).await;
    let note = put(json!({"agent": "sofia", "content": "call 42 today", "ttl_seconds": 5,
        "derived_from": [source.id]}))
    .await;
    let made = put(json!({"agent": "sofia", "content": "42 is called each day", "derived_from": [note.id]})).await;
    wait_until(SOON, || async { rows(&mesh).await == 2 }).await;
    let request: ForgetRequest = serde_json::from_value(json!({"filter": {"user": "ann"}})).unwrap();
    let receipt = mesh.ask::<MemoryErase>(request).await.unwrap();
    assert_eq!((receipt.forgotten, receipt.derived), (2, 1));
    let gone = mesh.ask::<MemoryGet>(MemoryRequest { id: made.id }).await;
    assert!(gone.unwrap_err().is(Code::MemoryNotFound));
}
