//! Storing, reading, changing, forgetting.

use mesh_api::memory::{
    Memory, MemoryChange, MemoryForget, MemoryGet, MemoryRequest, MemoryStore, MemoryUpdate, UpdateRequest,
};
use mesh_types::{Code, Id, MemoryId};
use serde_json::json;

use crate::setup::{Mesh, store};

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_comes_back_as_it_was_stored() {
    let mesh = Mesh::start().await;
    let invocation = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let request = store(json!({
        "agent": "sofia", "type": "semantic", "content": "Анна п'є жасминовий чай 🍵", "tags": ["tea", "anna"],
        "importance": 0.9, "source": {"invocation": invocation, "step": 4_000_000_000_u32},
        "metadata": {"user_message": "tea?", "agent_reply": "yes\u{0}", "n": 1.5},
    }));
    let stored = mesh.ask::<MemoryStore>(request.clone()).await.unwrap();
    assert!(stored.embedded);
    assert_eq!(
        (&stored.content, &stored.tags, stored.kind),
        (&request.content, &request.tags, request.kind)
    );
    assert_eq!((&stored.metadata, &stored.source), (&request.metadata, &request.source));
    let read = mesh.ask::<MemoryGet>(MemoryRequest { id: stored.id }).await.unwrap();
    assert_eq!(read, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_twice_is_one_memory_and_another_body_a_conflict() {
    let mesh = Mesh::start().await;
    let id = MemoryId::from_u128(77);
    let request = store(json!({"id": id, "agent": "sofia", "content": "once"}));
    let calls = (0..16).map(|_| mesh.ask::<MemoryStore>(request.clone()));
    let answers: Vec<Memory> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let other = store(json!({"id": id, "agent": "sofia", "content": "twice"}));
    let problem = mesh.ask::<MemoryStore>(other.clone()).await.unwrap_err();
    assert!(problem.is(Code::MemoryConflict), "{problem:?}");
    let elsewhere = mesh
        .context
        .bus
        .call::<MemoryStore>(&mesh.caller("other"), &other)
        .await
        .unwrap();
    assert_eq!(
        elsewhere.content, "twice",
        "ids of two tenants have nothing to do with each other"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_stays_forgotten() {
    let mesh = Mesh::start().await;
    let id = MemoryId::from_u128(5);
    let request = store(json!({"id": id, "agent": "sofia", "content": "a secret"}));
    mesh.ask::<MemoryStore>(request.clone()).await.unwrap();
    let elsewhere = mesh
        .context
        .bus
        .call::<MemoryForget>(&mesh.caller("other"), &MemoryRequest { id })
        .await;
    assert!(elsewhere.unwrap_err().is(Code::MemoryNotFound));
    for _ in 0..2 {
        assert!(mesh.ask::<MemoryForget>(MemoryRequest { id }).await.unwrap().forgotten);
    }
    assert!(
        mesh.ask::<MemoryGet>(MemoryRequest { id })
            .await
            .unwrap_err()
            .is(Code::MemoryNotFound)
    );
    let again = mesh.ask::<MemoryStore>(request).await.unwrap_err();
    assert!(
        again.is(Code::MemoryConflict) && again.detail.contains("forgotten"),
        "{again:?}"
    );
    assert!(
        mesh.query(json!({"agent": "sofia", "query": "a secret"}))
            .await
            .is_empty()
    );
    let unknown = mesh
        .ask::<MemoryForget>(MemoryRequest {
            id: MemoryId::from_u128(6),
        })
        .await
        .unwrap_err();
    assert!(unknown.is(Code::MemoryNotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_keeps_what_it_does_not_name() {
    let mesh = Mesh::start().await;
    let before = mesh.store("the meeting is on Monday").await;
    let change = |change: MemoryChange| mesh.ask::<MemoryUpdate>(UpdateRequest { id: before.id, change });
    let tagged = change(MemoryChange {
        tags: Some(vec!["work".into()]),
        ..MemoryChange::default()
    })
    .await
    .unwrap();
    assert_eq!(
        (tagged.content.as_str(), tagged.tags.len(), tagged.embedded),
        (before.content.as_str(), 1, true)
    );
    assert!(tagged.updated_at > before.updated_at);
    let text = "lunch moved to Friday".to_owned();
    let moved = change(MemoryChange {
        content: Some(text.clone()),
        ..MemoryChange::default()
    })
    .await
    .unwrap();
    assert_eq!(
        (moved.content.as_str(), moved.tags.len(), moved.created_at),
        (text.as_str(), 1, before.created_at)
    );
    let hits = mesh.query(json!({"agent": "sofia", "query": text})).await;
    assert!(hits[0].score > 0.99, "the vector is that of the new content: {hits:?}");
    let bad = change(MemoryChange {
        importance: Some(2.0),
        ..MemoryChange::default()
    })
    .await
    .unwrap_err();
    assert_eq!(bad.field.as_deref(), Some("importance"));
    let id = MemoryId::from_u128(1);
    let unknown = mesh
        .ask::<MemoryUpdate>(UpdateRequest {
            id,
            change: MemoryChange::default(),
        })
        .await;
    assert!(unknown.unwrap_err().is(Code::MemoryNotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_by_field_and_the_next_good_request_works() {
    let mesh = Mesh::start().await;
    let big = "x".repeat(memory::CONTENT_BYTES_MAX + 1);
    for (request, field) in [
        (json!({"agent": "sofia", "content": "a\u{0}b"}), "content"),
        (json!({"agent": "sofia", "content": ""}), "content"),
        (json!({"agent": "sofia", "content": big}), "content"),
        (json!({"agent": "sofia", "content": "x", "tags": ["\u{0}"]}), "tags[0]"),
        (
            json!({"agent": "sofia", "content": "x", "importance": -1}),
            "importance",
        ),
    ] {
        let problem = mesh.ask::<MemoryStore>(store(request)).await.unwrap_err();
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (400, Some(field)),
            "{problem:?}"
        );
    }
    let largest = mesh.store(&"слово ".repeat(32 * 1024 / 11)).await;
    assert!(largest.embedded);
    let one_word = mesh.store(&"y".repeat(memory::CONTENT_BYTES_MAX)).await;
    assert!(one_word.embedded);
}
