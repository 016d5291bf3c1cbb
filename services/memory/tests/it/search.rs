//! What a query finds, in which order, for whom.

use std::sync::Arc;

use memory::embed::HashEmbedder;
use mesh_api::memory::{MemoryQuery, MemoryStore, QueryRequest};
use mesh_runtime::Blocking;
use serde_json::{Value, json};

use crate::setup::{Mesh, store};

const FACTS: [&str; 6] = [
    "Anna's favourite tea is jasmine",
    "The server restarts every night at three",
    "Bohdan plays the violin on Sundays",
    "Invoices are sent on the first of the month",
    "The office has a green door",
    "Кава закінчилася у вівторок",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_comes_first_and_its_score_is_explained() {
    let mesh = Mesh::start().await;
    for fact in FACTS {
        mesh.store(fact).await;
    }
    for (query, found) in [
        ("what tea does Anna like?", 0),
        ("who plays violin", 2),
        ("коли закінчилася кава", 5),
    ] {
        let hits = mesh.query(json!({"agent": "sofia", "query": query, "k": 3})).await;
        assert_eq!(hits.len(), 3);
        assert_eq!(hits[0].memory.content, FACTS[found], "{query}");
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        let scores = &hits[0].scores;
        assert_eq!((scores.vector_rank, scores.text_rank), (Some(1), Some(1)), "{query}");
        assert_eq!(scores.fusion, Some(hits[0].score), "{query}");
        assert!(scores.vector.is_some_and(|similarity| similarity > 0.1), "{scores:?}");
        assert!(
            scores.text.is_some_and(|share| share > 0.0 && share <= 1.0),
            "{scores:?}"
        );
    }
    let same = mesh.query(json!({"agent": "sofia", "query": FACTS[0]})).await;
    assert!((same[0].score - 1.0).abs() < 1e-9, "first by both: {}", same[0].score);
    assert!(same[0].scores.vector.is_some_and(|similarity| similarity > 0.99));
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_hold_and_owners_are_apart() {
    let mesh = Mesh::start().await;
    let put = |value: Value| mesh.ask::<MemoryStore>(store(value));
    put(json!({"agent": "sofia", "content": "tea one", "type": "semantic", "tags": ["a", "b"]}))
        .await
        .unwrap();
    put(json!({"agent": "sofia", "content": "tea two", "tags": ["a"]}))
        .await
        .unwrap();
    put(json!({"agent": "bob", "content": "tea three", "tags": ["a", "b"]}))
        .await
        .unwrap();
    let other = store(json!({"agent": "sofia", "content": "tea four"}));
    mesh.context
        .bus
        .call::<MemoryStore>(&mesh.caller("other"), &other)
        .await
        .unwrap();
    let found = async |filters: Value| {
        let hits = mesh
            .query(json!({"agent": "sofia", "query": "tea", "k": 100, "filters": filters}))
            .await;
        let mut contents: Vec<String> = hits.into_iter().map(|hit| hit.memory.content).collect();
        contents.sort();
        contents
    };
    assert_eq!(found(json!({})).await, ["tea one", "tea two"]);
    assert_eq!(found(json!({"type": "semantic"})).await, ["tea one"]);
    assert_eq!(found(json!({"tags": ["a"]})).await, ["tea one", "tea two"]);
    assert_eq!(found(json!({"tags": ["b", "a"]})).await, ["tea one"]);
    assert_eq!(found(json!({"score_min": 1.5})).await, Vec::<String>::new());
    let request: QueryRequest = serde_json::from_value(json!({"agent": "sofia", "query": "tea"})).unwrap();
    let theirs = mesh
        .context
        .bus
        .call::<MemoryQuery>(&mesh.caller("other"), &request)
        .await
        .unwrap()
        .items;
    assert_eq!(theirs.len(), 1);
    assert_eq!(theirs[0].memory.content, "tea four");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_owner_is_searched_through_the_graph_and_still_gets_all_hits() {
    let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
    let mesh = Mesh::start_with(embedder, |config| config.exact_rows_max = 3).await;
    for fact in FACTS {
        mesh.store(fact).await;
        let elsewhere = store(json!({"agent": "bob", "content": fact}));
        mesh.ask::<MemoryStore>(elsewhere).await.unwrap();
    }
    let hits = mesh
        .query(json!({"agent": "sofia", "query": "violin on Sundays", "k": 4}))
        .await;
    assert_eq!(hits.len(), 4);
    assert_eq!(hits[0].memory.content, FACTS[2]);
    assert!(hits.iter().all(|hit| hit.memory.agent.as_str() == "sofia"));
    let more = mesh.query(json!({"agent": "sofia", "query": "violin", "k": 50})).await;
    assert_eq!(
        more.len(),
        FACTS.len(),
        "fewer than asked for: the exact sort has the last word"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_checked_and_hostile_text_is_only_text() {
    let mesh = Mesh::start().await;
    mesh.store("plain text").await;
    for (request, field) in [
        (json!({"agent": "sofia", "query": "x", "k": 0}), "k"),
        (json!({"agent": "sofia", "query": "x", "k": 101}), "k"),
        (json!({"agent": "sofia", "query": " "}), "query"),
        (json!({"agent": "sofia", "query": "a\u{0}"}), "query"),
    ] {
        let request: QueryRequest = serde_json::from_value(request).unwrap();
        let problem = mesh.ask::<MemoryQuery>(request).await.unwrap_err();
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (400, Some(field)),
            "{problem:?}"
        );
    }
    for query in [
        "'; DROP TABLE memory.memory; --",
        "a & b | !c <-> (d:*",
        "\\' \\\\ 'x'&'y'",
        "🍵",
        "?!",
        "' '' '''",
    ] {
        assert_eq!(
            mesh.query(json!({"agent": "sofia", "query": query})).await.len(),
            1,
            "{query}"
        );
    }
}
