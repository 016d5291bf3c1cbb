//! Words, weights, variety, scopes, and what a search says when it had to go by words only.

use std::sync::atomic::Ordering;

use mesh_api::memory::{MemoryQuery, MemoryStore, QueryReply, QueryRequest};
use mesh_types::AgentName;
use serde_json::{Value, json};

use crate::embedders::Switched;
use crate::rows::{Rows, uuid};
use crate::setup::{Mesh, store};

async fn put(mesh: &Mesh, value: Value) {
    mesh.ask::<MemoryStore>(store(value)).await.unwrap();
}

async fn reply(mesh: &Mesh, request: Value) -> QueryReply {
    let request: QueryRequest = serde_json::from_value(request).unwrap();
    mesh.ask::<MemoryQuery>(request).await.unwrap()
}

async fn contents(mesh: &Mesh, request: Value) -> Vec<String> {
    let items = reply(mesh, request).await.items;
    items.into_iter().map(|hit| hit.memory.content).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn words_match_by_their_stems_and_rare_ones_count_more() {
    let mesh = Mesh::start().await;
    for content in [
        "The servers restarted at night",
        "Anna likes the night",
        "Anna waters the plants at night",
        "Рахунки надсилають першого числа",
    ] {
        mesh.store(content).await;
    }
    let by_words = |query: &str| json!({"agent": "sofia", "query": query, "mode": "text"});
    assert_eq!(
        contents(&mesh, by_words("when does a server restart?")).await,
        ["The servers restarted at night"]
    );
    let night = reply(&mesh, by_words("plants at night")).await.items;
    assert_eq!(night.len(), 3);
    assert_eq!(night[0].memory.content, "Anna waters the plants at night");
    assert!(
        (night[0].score - 1.0).abs() < 1e-9,
        "it holds all: {:?}",
        night[0].scores
    );
    assert!(
        night[1].score < 0.5,
        "`plants` is rarer than `night`: {:?}",
        night[1].scores
    );
    assert_eq!((night[1].scores.vector, night[1].scores.fusion), (None, None));
    assert_eq!(
        contents(&mesh, by_words("рахунки")).await,
        ["Рахунки надсилають першого числа"]
    );
    assert!(
        contents(&mesh, by_words("and the of")).await.is_empty(),
        "no word that says anything"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_all_words_is_found_among_thousands_that_hold_one() {
    let mesh = Mesh::start().await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let agent: AgentName = "sofia".parse().unwrap();
    let many = |word: &str| (0..700).map(|number| format!("{word} {number}")).collect::<Vec<_>>();
    rows.put(&agent, "agent", &many("morning")).await;
    rows.put(&agent, "agent", &many("harbour")).await;
    rows.put(&agent, "agent", &["the harbour in the morning".to_owned()])
        .await;
    rows.analyze().await;
    let found = contents(
        &mesh,
        json!({"agent": "sofia", "query": "harbour morning", "mode": "text", "k": 2}),
    )
    .await;
    assert_eq!(found[0], "the harbour in the morning");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_embedder_the_reply_says_why_it_goes_by_words() {
    let (embedder, is_down) = Switched::new();
    let mesh = Mesh::start_with(embedder, |_| ()).await;
    mesh.store("the violin concert").await;
    let up = reply(&mesh, json!({"agent": "sofia", "query": "violin"})).await;
    assert_eq!((up.items.len(), up.degraded), (1, None));
    is_down.store(true, Ordering::SeqCst);
    let down = reply(&mesh, json!({"agent": "sofia", "query": "concerts"})).await;
    assert_eq!(down.items.len(), 1);
    assert!(
        down.degraded
            .is_some_and(|why| why.contains("switched off") && why.contains("words"))
    );
    let text = reply(&mesh, json!({"agent": "sofia", "query": "concert", "mode": "text"})).await;
    assert_eq!((text.items.len(), text.degraded), (1, None), "it was asked for");
    is_down.store(false, Ordering::SeqCst);
    let other = reply(&mesh, json!({"agent": "sofia", "query": "concert", "model": "other"})).await;
    assert!(
        other
            .degraded
            .is_some_and(|why| why.contains("hash-384") && why.contains("other"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_are_searched_when_they_are_named() {
    let mesh = Mesh::start().await;
    put(&mesh, json!({"agent": "sofia", "content": "tea of the agent"})).await;
    put(
        &mesh,
        json!({"agent": "bob", "content": "tea of the tenant", "scope": "tenant"}),
    )
    .await;
    put(
        &mesh,
        json!({"agent": "sofia", "content": "tea of the session", "scope": "session", "session": "s1"}),
    )
    .await;
    put(
        &mesh,
        json!({"agent": "bob", "content": "tea of the user", "scope": "user", "user": "ann"}),
    )
    .await;
    put(&mesh, json!({"agent": "bob", "content": "tea of bob"})).await;
    let found = async |filters: Value| {
        let mut all = contents(
            &mesh,
            json!({"agent": "sofia", "query": "tea", "k": 50, "filters": filters}),
        )
        .await;
        all.sort();
        all.into_iter()
            .map(|text| text.replace("tea of the ", ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(json!({})).await, ["agent", "tenant"]);
    assert_eq!(
        found(json!({"session": "s1", "user": "ann"})).await,
        ["agent", "session", "tenant", "user"]
    );
    assert_eq!(found(json!({"session": "s2"})).await, ["agent", "tenant"]);
    assert_eq!(found(json!({"scopes": ["user"], "user": "ann"})).await, ["user"]);
    assert_eq!(found(json!({"scopes": ["tenant"]})).await, ["tenant"]);
    let request = json!({"agent": "sofia", "query": "tea", "filters": {"scopes": ["session"]}});
    let refused = mesh
        .ask::<MemoryQuery>(serde_json::from_value(request).unwrap())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.status, refused.field.as_deref()),
        (400, Some("filters.session"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_filter_keeps_what_it_says() {
    let mesh = Mesh::start().await;
    let pool = mesh.database.pool().await;
    put(
        &mesh,
        json!({"agent": "sofia", "content": "tea one", "importance": 0.9}),
    )
    .await;
    put(
        &mesh,
        json!({"agent": "sofia", "content": "tea two", "importance": 0.1}),
    )
    .await;
    let source = json!({"invocation": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV", "step": 2});
    put(
        &mesh,
        json!({"agent": "sofia", "content": "tea three", "source": source}),
    )
    .await;
    sqlx::query("UPDATE memory.memory SET created_at = '2020-01-01' WHERE content = 'tea two'")
        .execute(&pool)
        .await
        .unwrap();
    for mode in ["hybrid", "vector", "text"] {
        let found = async |filters: Value| {
            let request = json!({"agent": "sofia", "query": "tea", "k": 50, "mode": mode, "filters": filters});
            let mut all = contents(&mesh, request).await;
            all.sort();
            all.into_iter().map(|text| text.replace("tea ", "")).collect::<Vec<_>>()
        };
        assert_eq!(found(json!({"importance_min": 0.5})).await, ["one", "three"], "{mode}");
        assert_eq!(
            found(json!({"since": "2021-01-01T00:00:00Z"})).await,
            ["one", "three"],
            "{mode}"
        );
        assert_eq!(found(json!({"until": "2021-01-01T00:00:00Z"})).await, ["two"], "{mode}");
        assert_eq!(
            found(json!({"invocation": "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV"})).await,
            ["three"],
            "{mode}"
        );
        let none: [&str; 0] = [];
        assert_eq!(found(json!({"tags": ["x"]})).await, none, "{mode}");
    }
    let same = json!({"agent": "sofia", "query": "tea one", "filters": {"similarity_min": 0.99}});
    assert_eq!(contents(&mesh, same).await, ["tea one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recency_importance_and_variety_change_the_order() {
    let mesh = Mesh::start().await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let agent: AgentName = "sofia".parse().unwrap();
    let texts = ["tea".to_owned(), "tea!".to_owned(), "coffee".to_owned()];
    let ids = rows.put(&agent, "agent", &texts).await;
    let axis = |at: usize| {
        (0..384)
            .map(|place| if place == at { 1.0 } else { 0.0 })
            .collect::<Vec<f32>>()
    };
    let mut asked = axis(0);
    asked[1] = 0.8;
    rows.put_vectors("m", &ids, &[axis(0), axis(0), axis(1)]).await;
    sqlx::query("UPDATE memory.memory SET created_at = now() - interval '300 d', importance = 1 WHERE id = $1::uuid")
        .bind(uuid(&ids[0]))
        .execute(&rows.pool)
        .await
        .unwrap();
    let found = async |more: Value| {
        let mut request = json!({"agent": "sofia", "vector": asked, "model": "m", "mode": "vector", "k": 2});
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        contents(&mesh, request).await
    };
    assert_eq!(found(json!({})).await, ["tea!", "tea"], "of equals the newer one");
    assert_eq!(found(json!({"weights": {"recency": 0.5}})).await, ["tea!", "coffee"]);
    assert_eq!(found(json!({"weights": {"importance": 1.0}})).await[0], "tea");
    assert_eq!(found(json!({"mmr": 0.5})).await, ["tea!", "coffee"]);
    let request = json!({"agent": "sofia", "vector": asked, "model": "m", "mmr": 0.5, "k": 2});
    let hits = reply(&mesh, request).await.items;
    assert!(hits.iter().all(|hit| hit.scores.mmr.is_some()));
}
