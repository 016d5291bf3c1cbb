//! The same said again is one memory; what only looks alike is not.

use mesh_api::memory::{
    Memory, MemoryChange, MemoryForget, MemoryGet, MemoryRequest, MemoryStore, MemoryUpdate, UpdateRequest,
};
use mesh_types::{Code, Id, MemoryId, Problem};
use serde_json::{Value, json};

use crate::setup::{Mesh, store};

async fn put(mesh: &Mesh, value: Value) -> Result<Memory, Problem> {
    mesh.ask::<MemoryStore>(store(value)).await
}

async fn rows(mesh: &Mesh) -> i64 {
    let pool = mesh.database.pool().await;
    sqlx::query_scalar("SELECT count(*) FROM memory.memory")
        .fetch_one(&pool)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_said_again_is_counted_and_its_id_leads_there() {
    let mesh = Mesh::start().await;
    let (one, two) = (MemoryId::from_u128(1), MemoryId::from_u128(2));
    let first = put(
        &mesh,
        json!({"id": one, "agent": "sofia", "content": "Anna likes jasmine tea", "tags": ["tea"]}),
    )
    .await
    .unwrap();
    let request = json!({"id": two, "agent": "sofia", "content": " anna likes  jasmine tea!", "tags": ["anna", "tea"],
        "importance": 0.9});
    let second = put(&mesh, request.clone()).await.unwrap();
    assert_eq!((second.id, second.seen, second.version), (one, 2, 1));
    assert_eq!(
        (second.tags.clone(), second.importance),
        (vec!["tea".to_owned(), "anna".to_owned()], 0.9)
    );
    assert_eq!((&second.content, second.created_at), (&first.content, first.created_at));
    let again = put(&mesh, request.clone()).await.unwrap();
    assert_eq!(again, second, "the repeat of a request is not said once more");
    assert_eq!(mesh.ask::<MemoryGet>(MemoryRequest { id: two }).await.unwrap(), second);
    let mut other = request.clone();
    other["content"] = json!("something else");
    assert!(put(&mesh, other).await.unwrap_err().is(Code::MemoryConflict));
    assert_eq!(rows(&mesh).await, 1);

    let change = MemoryChange {
        content: Some("Anna likes mint tea".to_owned()),
        ..MemoryChange::default()
    };
    let changed = mesh
        .ask::<MemoryUpdate>(UpdateRequest { id: two, change })
        .await
        .unwrap();
    assert_eq!((changed.id, changed.version), (one, 2));
    assert_eq!(
        put(&mesh, request.clone()).await.unwrap(),
        changed,
        "an acknowledged id leads there for good"
    );

    assert!(
        mesh.ask::<MemoryForget>(MemoryRequest { id: two })
            .await
            .unwrap()
            .forgotten
    );
    for id in [one, two] {
        let gone = mesh.ask::<MemoryGet>(MemoryRequest { id }).await.unwrap_err();
        assert!(gone.is(Code::MemoryNotFound));
    }
    let late = put(&mesh, request).await.unwrap_err();
    assert!(
        late.is(Code::MemoryConflict) && late.detail.contains("forgotten"),
        "{late:?}"
    );
    assert_eq!(rows(&mesh).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_numbers_two_owners_two_kinds_and_two_exchanges_stay_two() {
    let mesh = Mesh::start().await;
    let different = [
        json!({"agent": "sofia", "content": "order 1234 was shipped"}),
        json!({"agent": "sofia", "content": "order 1235 was shipped"}),
        json!({"agent": "sofia", "content": "order 1234 was not shipped"}),
        json!({"agent": "sofia", "content": "was order 1234 shipped?"}),
        json!({"agent": "boris", "content": "order 1234 was shipped"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "type": "semantic"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "scope": "tenant"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "scope": "user", "user": "ann"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "scope": "user", "user": "bob"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "user": "bob"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "session": "s"}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "metadata": {"user_message": "1", "agent_reply": "a"}}),
        json!({"agent": "sofia", "content": "order 1234 was shipped", "metadata": {"user_message": "1", "agent_reply": "b"}}),
        json!({"agent": "sofia", "content": "set X = 1", "type": "procedural"}),
        json!({"agent": "sofia", "content": "set x = 1", "type": "procedural"}),
    ];
    for request in &different {
        let stored = put(&mesh, request.clone()).await.unwrap();
        assert_eq!(stored.seen, 1, "{request}");
    }
    for request in &different {
        let stored = put(&mesh, request.clone()).await.unwrap();
        assert_eq!(stored.seen, 2, "{request}");
    }
    assert_eq!(rows(&mesh).await, different.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_said_by_many_at_once_is_one_memory() {
    let mesh = Mesh::start().await;
    let calls = (0..24).map(|number| {
        let content = if number % 2 == 0 { "said by all" } else { "Said by all." };
        put(
            &mesh,
            json!({"id": MemoryId::from_u128(number + 1), "agent": "sofia", "content": content}),
        )
    });
    let stored: Vec<Memory> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(stored.iter().all(|memory| memory.id == stored[0].id));
    let last = mesh.ask::<MemoryGet>(MemoryRequest { id: stored[0].id }).await.unwrap();
    assert_eq!((last.seen, rows(&mesh).await), (24, 1));
    for number in 0..24 {
        let id = MemoryId::from_u128(number + 1);
        assert_eq!(mesh.ask::<MemoryGet>(MemoryRequest { id }).await.unwrap().id, last.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_lives_as_long_as_the_longer_of_the_two() {
    let mesh = Mesh::start().await;
    let with = |ttl: u64| {
        put(
            &mesh,
            json!({"agent": "sofia", "content": "wait", "type": "working", "ttl_seconds": ttl}),
        )
    };
    let first = with(7_200).await.unwrap();
    let shorter = with(60).await.unwrap();
    assert_eq!(shorter.expires_at, first.expires_at);
    let longer = with(14_400).await.unwrap();
    assert!(longer.expires_at > first.expires_at);
    let pool = mesh.database.pool().await;
    let is_due: bool =
        sqlx::query_scalar("SELECT e.at = m.expires_at FROM memory.expiry e JOIN memory.memory m ON m.id = e.memory")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!(is_due);
    assert_eq!(with(0).await.unwrap().expires_at, None);
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM memory.expiry")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_deduplication_each_is_kept() {
    let embedder = std::sync::Arc::new(memory::embed::HashEmbedder::new(mesh_runtime::Blocking::default()));
    let mesh = Mesh::start_with(embedder, |config| config.deduplicate = false).await;
    for _ in 0..3 {
        assert_eq!(mesh.store("the same").await.seen, 1);
    }
    assert_eq!(rows(&mesh).await, 3);
}
