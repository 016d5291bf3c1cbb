//! Searches by vectors against brute force: small owners, large ones, models side by side, rows that must not be seen.

use std::sync::Arc;

use memory::embed::HashEmbedder;
use mesh_api::memory::{Hit, MemoryQuery, QueryMode, QueryRequest, Scope};
use mesh_runtime::Blocking;
use mesh_types::{AgentName, Code, MemoryId};

use crate::rows::{Rows, clustered, cosine, uuid};
use crate::setup::Mesh;

const ROWS: usize = 3_000;
const K: usize = 10;
const QUERIES: usize = 30;
const MODEL: &str = "test-384";

fn ann() -> AgentName {
    "ann".parse().unwrap()
}

fn by_vector(vector: Vec<f32>, model: &str, scopes: Vec<Scope>) -> QueryRequest {
    let mut request = QueryRequest::new(ann(), "", K as u32);
    request.mode = QueryMode::Vector;
    request.vector = Some(vector);
    request.model = Some(model.to_owned());
    request.filters.scopes = scopes;
    request
}

async fn ask(mesh: &Mesh, request: QueryRequest) -> Vec<Hit> {
    mesh.ask::<MemoryQuery>(request).await.unwrap().items
}

async fn mesh() -> Mesh {
    let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
    Mesh::start_with(embedder, |config| config.exact_rows_max = 100).await
}

/// Share of the really nearest that were found.
async fn recall(mesh: &Mesh, rows: &[(MemoryId, Vec<f32>)], scopes: &[Scope]) -> f64 {
    let mut found = 0;
    for asked in clustered(2, QUERIES, 20) {
        let mut nearest: Vec<(f64, MemoryId)> = rows.iter().map(|(id, vector)| (cosine(vector, &asked), *id)).collect();
        nearest.sort_by(|a, b| b.0.total_cmp(&a.0));
        nearest.truncate(K);
        let hits = ask(mesh, by_vector(asked, MODEL, scopes.to_vec())).await;
        assert_eq!(hits.len(), K);
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
        // Stored as half floats: the last bits of a distance may turn two neighbours round.
        let least = nearest.last().unwrap().0 - 1e-3;
        found += hits
            .iter()
            .filter(|hit| hit.scores.vector.is_some_and(|similarity| similarity >= least))
            .count();
    }
    found as f64 / (QUERIES * K) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_one_percent_gets_the_really_nearest_and_so_does_the_owner_of_all() {
    let mesh = mesh().await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let contents: Vec<String> = (0..ROWS).map(|number| format!("memory {number}")).collect();
    let (own, shared) = contents.split_at(ROWS / 100);
    let mut ids = rows.put(&ann(), "agent", own).await;
    ids.extend(rows.put(&"bob".parse().unwrap(), "tenant", shared).await);
    let vectors = clustered(1, ROWS, 20);
    rows.put_vectors(MODEL, &ids, &vectors).await;
    rows.analyze().await;
    let all: Vec<(MemoryId, Vec<f32>)> = ids.into_iter().zip(vectors).collect();
    let own = recall(&mesh, &all[..ROWS / 100], &[Scope::Agent]).await;
    assert!((own - 1.0).abs() < 1e-9, "sorted exactly: {own}");
    let unfiltered = recall(&mesh, &all, &[]).await;
    assert!(unfiltered >= 0.98, "through the graph: {unfiltered}");
}

const COPY: [&str; 2] = [
    "INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, metadata, body_hash, scope,
        created_at, updated_at)
     SELECT 'other', id, agent, kind, 'other ' || content, tags, importance, metadata, body_hash, scope, created_at,
        updated_at FROM memory.memory",
    "INSERT INTO memory.memory_vector_384 (tenant, item, owner, model, embedding)
     SELECT 'other', item, owner, model, embedding FROM memory.memory_vector_384",
];

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_by_turns_on_one_connection_find_their_own_only() {
    let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
    let mesh = Mesh::start_with(embedder, |config| {
        config.exact_rows_max = 100;
        config.database.connections = 1;
    })
    .await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let contents: Vec<String> = (0..ROWS).map(|number| format!("memory {number}")).collect();
    let (own, shared) = contents.split_at(ROWS / 100);
    let mut ids = rows.put(&ann(), "agent", own).await;
    ids.extend(rows.put(&"bob".parse().unwrap(), "tenant", shared).await);
    rows.put_vectors(MODEL, &ids, &clustered(1, ROWS, 20)).await;
    for copy in COPY {
        sqlx::query(copy).execute(&rows.pool).await.unwrap();
    }
    rows.analyze().await;
    for asked in clustered(2, 5, 20) {
        // Through the graph, and sorted.
        for scopes in [Vec::new(), vec![Scope::Agent]] {
            for (tenant, beginning) in [("default", "memory "), ("other", "other memory "), ("none", "-")] {
                let request = by_vector(asked.clone(), MODEL, scopes.clone());
                let reply = mesh
                    .context
                    .bus
                    .call::<MemoryQuery>(&mesh.caller(tenant), &request)
                    .await;
                let hits = reply.unwrap().items;
                assert_eq!(hits.len(), if tenant == "none" { 0 } else { K }, "{tenant}");
                assert!(
                    hits.iter().all(|hit| hit.memory.content.starts_with(beginning)),
                    "{tenant}: {hits:?}"
                );
            }
        }
    }
}

/// Those that wait while another is answered share one reading of the owner's vectors.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_beside_others_gets_what_each_gets_alone() {
    asks_beside_others(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_beside_others_of_kept_vectors_gets_what_each_gets_alone() {
    asks_beside_others(1 << 20).await;
}

async fn asks_beside_others(kept_vectors_bytes: usize) {
    let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
    let mesh = Mesh::start_with(embedder, |config| {
        config.exact_rows_max = 100;
        config.kept_vectors_bytes = kept_vectors_bytes;
        config.database.connections = 3;
    })
    .await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let contents: Vec<String> = (0..90).map(|number| format!("memory {number}")).collect();
    let ids = rows.put(&ann(), "agent", &contents).await;
    rows.put_vectors(MODEL, &ids, &clustered(1, 90, 20)).await;
    for copy in COPY {
        sqlx::query(copy).execute(&rows.pool).await.unwrap();
    }
    rows.analyze().await;
    let mut questions = Vec::new();
    for (number, vector) in clustered(2, 40, 20).into_iter().enumerate() {
        let tenant = if number % 3 == 0 { "other" } else { "default" };
        // Of the same question in another number nothing may be shared.
        let k = if number % 4 == 0 { 5 } else { K };
        let mut request = by_vector(vector, MODEL, vec![Scope::Agent]);
        request.k = k as u32;
        questions.push((tenant, k, request));
    }
    let answer = async |(tenant, k, request): &(&str, usize, QueryRequest)| {
        let reply = mesh
            .context
            .bus
            .call::<MemoryQuery>(&mesh.caller(tenant), request)
            .await;
        let hits = reply.unwrap().items;
        let beginning = if *tenant == "other" { "other memory " } else { "memory " };
        assert!(
            hits.iter().all(|hit| hit.memory.content.starts_with(beginning)),
            "{hits:?}"
        );
        assert_eq!(hits.len(), *k);
        let told = |hit: Hit| (hit.memory.id, hit.scores.vector.unwrap());
        hits.into_iter().map(told).collect::<Vec<_>>()
    };
    let mut alone = Vec::new();
    for question in &questions {
        alone.push(answer(question).await);
    }
    for _ in 0..5 {
        let together = futures::future::join_all(questions.iter().map(&answer)).await;
        for (together, alone) in together.into_iter().flatten().zip(alone.iter().flatten()) {
            // Sums of floats in another order.
            assert!(
                together.0 == alone.0 && (together.1 - alone.1).abs() < 1e-5,
                "{together:?} {alone:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_two_models_are_never_compared() {
    let mesh = mesh().await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let contents = [
        "jasmine tea".to_owned(),
        "green tea".to_owned(),
        "black coffee".to_owned(),
    ];
    let ids = rows.put(&ann(), "agent", &contents).await;
    let vectors = clustered(1, 3, 3);
    rows.put_vectors("one", &ids[..2], &vectors[..2]).await;
    rows.put_vectors("two", &ids[1..], &vectors[1..]).await;
    let found = async |model: &str| {
        let hits = ask(&mesh, by_vector(vectors[1].clone(), model, Vec::new())).await;
        hits.iter().map(|hit| hit.memory.id).collect::<Vec<_>>()
    };
    let one = found("one").await;
    assert_eq!((one.len(), one[0]), (2, ids[1]));
    let two = found("two").await;
    assert_eq!((two.len(), two[0]), (2, ids[1]));
    assert!(found("three").await.is_empty());
    // What has no vector of the model yet is found by its words.
    let mut hybrid = by_vector(vectors[1].clone(), "one", Vec::new());
    hybrid.mode = QueryMode::Hybrid;
    hybrid.query = "black coffee".into();
    let hits = ask(&mesh, hybrid).await;
    assert_eq!(hits.len(), 3);
    let coffee = hits.iter().find(|hit| hit.memory.id == ids[2]).unwrap();
    assert_eq!((coffee.scores.vector, coffee.scores.text), (None, Some(1.0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_of_other_dimensions_is_refused_by_name() {
    let mesh = mesh().await;
    for (model, count) in [(Some("other"), 10), (None, 768), (Some("hash-384"), 385)] {
        let mut request = by_vector(vec![0.5; count], "x", Vec::new());
        request.model = model.map(str::to_owned);
        let problem = mesh.ask::<MemoryQuery>(request).await.unwrap_err();
        assert!(problem.is(Code::ModelDimensions), "{problem:?}");
        assert!(
            problem.detail.contains(&count.to_string()) && problem.detail.contains("384"),
            "{problem:?}"
        );
    }
    let zeros = by_vector(vec![0.0; 384], "x", Vec::new());
    assert!(
        mesh.ask::<MemoryQuery>(zeros)
            .await
            .unwrap_err()
            .is(Code::InvalidRequest)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_and_expired_ones_are_never_seen_however_near_they_are() {
    let mesh = mesh().await;
    let mut rows = Rows::new(mesh.database.pool().await);
    let contents: Vec<String> = (0..60).map(|number| format!("memory {number}")).collect();
    let ids = rows.put(&ann(), "agent", &contents).await;
    let asked = clustered(7, 1, 1).remove(0);
    // The nearer the lower the number: the first forty are all nearer than any that may be seen.
    let vectors: Vec<Vec<f32>> = (0..60)
        .map(|number| {
            asked
                .iter()
                .enumerate()
                .map(|(at, x)| if at < 2 * number { -x } else { *x })
                .collect()
        })
        .collect();
    rows.put_vectors(MODEL, &ids, &vectors).await;
    for (change, ids) in [
        (
            "UPDATE memory.memory SET superseded_by = id WHERE id = ANY ($1::uuid[])",
            &ids[..20],
        ),
        (
            "UPDATE memory.memory SET expires_at = now() - interval '1 h' WHERE id = ANY ($1::uuid[])",
            &ids[20..40],
        ),
    ] {
        let hidden: Vec<String> = ids.iter().map(uuid).collect();
        sqlx::query(change).bind(hidden).execute(&rows.pool).await.unwrap();
    }
    let hits = ask(&mesh, by_vector(asked.clone(), MODEL, Vec::new())).await;
    let found: Vec<MemoryId> = hits.iter().map(|hit| hit.memory.id).collect();
    assert_eq!(found, ids[40..50]);
    let mut all = by_vector(asked, MODEL, Vec::new());
    all.filters.superseded = true;
    let hits = ask(&mesh, all).await;
    let found: Vec<MemoryId> = hits.iter().map(|hit| hit.memory.id).collect();
    assert_eq!(found, ids[..10], "superseded ones when they are asked for");
}
