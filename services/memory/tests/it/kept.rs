//! Vectors that the service keeps in its memory: whatever changes elsewhere, a search finds what Postgres has.

use std::sync::Arc;
use std::time::Duration;

use memory::embed::HashEmbedder;
use mesh_api::memory::{Hit, MemoryForget, MemoryQuery, MemoryRequest, MemoryStore, QueryMode, QueryRequest, Scope};
use mesh_runtime::Blocking;
use mesh_testkit::wait_until;
use mesh_types::{AgentName, Id as _, MemoryId};
use serde_json::json;

use crate::rows::{Rows, clustered, cosine, uuid};
use crate::setup::{Mesh, store};

pub(crate) const MODEL: &str = "test-384";
const ROWS: usize = 60;
pub(crate) const K: usize = 10;
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn ann() -> AgentName {
    "ann".parse().unwrap()
}

pub(crate) fn question(vector: Vec<f32>, model: &str) -> QueryRequest {
    let mut request = QueryRequest::new(ann(), "", K as u32);
    request.mode = QueryMode::Vector;
    request.vector = Some(vector);
    request.model = Some(model.to_owned());
    request.filters.scopes = vec![Scope::Agent];
    request
}

pub(crate) async fn found(mesh: &Mesh, tenant: &str, request: &QueryRequest) -> Vec<Hit> {
    let reply = mesh
        .context
        .bus
        .call::<MemoryQuery>(&mesh.caller(tenant), request)
        .await;
    reply.unwrap().items
}

pub(crate) fn ids(hits: &[Hit]) -> Vec<MemoryId> {
    hits.iter().map(|hit| hit.memory.id).collect()
}

/// A service and the memories of `ann` with their vectors.
pub(crate) struct World {
    pub(crate) mesh: Mesh,
    pub(crate) rows: Rows,
    pub(crate) all: Vec<(MemoryId, Vec<f32>)>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_budget(1 << 20).await
    }

    pub(crate) async fn with_budget(bytes: usize) -> Self {
        let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
        let mesh = Mesh::start_with(embedder, |config| config.kept_vectors_bytes = bytes).await;
        let mut rows = Rows::new(mesh.database.pool().await);
        let contents: Vec<String> = (0..ROWS).map(|number| format!("memory {number}")).collect();
        let ids = rows.put(&ann(), "agent", &contents).await;
        let vectors = clustered(1, ROWS, 20);
        rows.put_vectors(MODEL, &ids, &vectors).await;
        let all = ids.into_iter().zip(vectors).collect();
        Self { mesh, rows, all }
    }

    /// One more memory with this vector.
    pub(crate) async fn put(&mut self, vector: Vec<f32>) -> MemoryId {
        let id = self.rows.put(&ann(), "agent", &["one more".to_owned()]).await[0];
        self.rows.put_vectors(MODEL, &[id], std::slice::from_ref(&vector)).await;
        self.all.push((id, vector));
        id
    }

    pub(crate) async fn sql(&self, statement: &'static str, id: MemoryId) {
        let done = sqlx::query(statement).bind(uuid(&id)).execute(&self.rows.pool).await;
        assert!(done.unwrap().rows_affected() > 0, "{statement}");
    }

    /// Whether the vectors are kept: a change that nothing logs is not seen then.
    pub(crate) async fn is_kept(&mut self) -> bool {
        let vector = clustered(99, 1, 1).remove(0);
        let id = self.rows.put(&ann(), "agent", &["behind its back".to_owned()]).await[0];
        let text = serde_json::Value::from(vector.clone()).to_string();
        let off = "ALTER TABLE memory.memory_vector_384 DISABLE TRIGGER USER";
        let on = "ALTER TABLE memory.memory_vector_384 ENABLE ALWAYS TRIGGER vectors_inserted,
            ENABLE ALWAYS TRIGGER vectors_updated, ENABLE ALWAYS TRIGGER vectors_deleted";
        let change = async |statement: &'static str, values: &[&str]| {
            let mut tx = self.rows.pool.begin().await.unwrap();
            sqlx::query(off).execute(&mut *tx).await.unwrap();
            let mut query = sqlx::query(statement);
            for value in values {
                query = query.bind(*value);
            }
            query.execute(&mut *tx).await.unwrap();
            sqlx::query(on).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        };
        let id = uuid(&id);
        let insert = "INSERT INTO memory.memory_vector_384 (tenant, item, owner, model, embedding)
            VALUES ('default', $1::uuid, 'a:ann', $2, $3::public.halfvec(384))";
        change(insert, &[&id, MODEL, &text]).await;
        let hits = found(&self.mesh, "default", &question(vector, MODEL)).await;
        change("DELETE FROM memory.memory WHERE id = $1::uuid", &[&id]).await;
        hits.iter().all(|hit| uuid(&hit.memory.id) != id)
    }

    pub(crate) async fn warm(&mut self) {
        let deadline = tokio::time::Instant::now() + SOON;
        while !self.is_kept().await {
            assert!(tokio::time::Instant::now() < deadline, "the vectors are not kept");
        }
    }

    /// What is found is what a look at all of them finds, with their similarity.
    pub(crate) async fn check(&self, what: &str) {
        for asked in clustered(5, 4, 20) {
            let mut nearest: Vec<(f64, MemoryId)> = self
                .all
                .iter()
                .map(|(id, vector)| (cosine(vector, &asked), *id))
                .collect();
            nearest.sort_by(|a, b| b.0.total_cmp(&a.0));
            nearest.truncate(K);
            let hits = found(&self.mesh, "default", &question(asked, MODEL)).await;
            assert_eq!(hits.len(), nearest.len(), "{what}");
            let is_one = |hit: &Hit| self.all.iter().any(|(id, _)| *id == hit.memory.id);
            assert!(hits.iter().all(is_one), "{what}: one too many");
            // Scores of what is not alike at all are equal; and half floats lose some bits.
            let mut told: Vec<f64> = hits.iter().filter_map(|hit| hit.scores.vector).collect();
            told.sort_by(|a, b| b.total_cmp(a));
            let is_same = |(told, (known, _)): (&f64, &(f64, MemoryId))| (told - known).abs() < 1e-3;
            assert!(
                told.iter().zip(&nearest).all(is_same),
                "{what}: {told:?} for {nearest:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_elsewhere_is_seen_at_once_and_the_vectors_stay_kept() {
    let mut world = World::new().await;
    world.check("by SQL").await;
    world.warm().await;
    world.check("kept").await;
    for (number, vector) in clustered(5, 4, 20).into_iter().enumerate() {
        let id = world.put(vector.clone()).await;
        let hits = found(&world.mesh, "default", &question(vector, MODEL)).await;
        assert_eq!(hits[0].memory.id, id, "addition {number}");
    }
    world.check("after additions").await;
    let moved = clustered(6, 1, 1).remove(0);
    let (id, vector) = world.all.last_mut().unwrap();
    *vector = moved.clone();
    sqlx::query("UPDATE memory.memory_vector_384 SET embedding = $2::public.halfvec(384) WHERE item = $1::uuid")
        .bind(uuid(id))
        .bind(serde_json::Value::from(moved).to_string())
        .execute(&world.rows.pool)
        .await
        .unwrap();
    world.check("after a change").await;
    for statement in [
        "DELETE FROM memory.memory WHERE id = $1::uuid",
        "DELETE FROM memory.memory_vector_384 WHERE item = $1::uuid",
        "UPDATE memory.memory SET superseded_by = id WHERE id = $1::uuid",
        "UPDATE memory.memory SET expires_at = now() - interval '1 h' WHERE id = $1::uuid",
        "UPDATE memory.memory_vector_384 SET owner = 'a:bob' WHERE item = $1::uuid",
        "UPDATE memory.memory_vector_384 SET model = 'other' WHERE item = $1::uuid",
    ] {
        let (id, _) = world.all.remove(0);
        world.sql(statement, id).await;
        world.check(statement).await;
    }
    sqlx::query("UPDATE memory.memory_vector_384 SET owner = 'a:ann' WHERE owner = 'a:bob'")
        .execute(&world.rows.pool)
        .await
        .unwrap();
    let back = MemoryId::from_u128(5);
    world.all.push((back, clustered(1, ROWS, 20).remove(4)));
    world.check("after one came back").await;
    assert!(world.is_kept().await, "all of it was caught up with");
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_ones_leave_their_places_to_others_however_many_they_are() {
    let mut world = World::new().await;
    // Around a centre that no other has.
    let asked = clustered(7, 21, 21).remove(20);
    let turned = |number: usize| -> Vec<f32> {
        let turn = |(at, x): (usize, &f32)| if at < 2 * number { -x } else { *x };
        asked.iter().enumerate().map(turn).collect()
    };
    let mut near = Vec::new();
    for number in 0..40 {
        near.push(world.put(turned(number)).await);
    }
    world.warm().await;
    let request = question(asked.clone(), MODEL);
    assert_eq!(ids(&found(&world.mesh, "default", &request).await), near[..K]);
    for hidden in near[..4].iter() {
        world
            .sql(
                "UPDATE memory.memory SET superseded_by = id WHERE id = $1::uuid",
                *hidden,
            )
            .await;
    }
    assert_eq!(ids(&found(&world.mesh, "default", &request).await), near[4..4 + K]);
    // More than are listed.
    for hidden in near[4..25].iter() {
        let statement = "UPDATE memory.memory SET expires_at = now() - interval '1 h' WHERE id = $1::uuid";
        world.sql(statement, *hidden).await;
    }
    assert_eq!(ids(&found(&world.mesh, "default", &request).await), near[25..25 + K]);
    let mut with_old = request;
    with_old.filters.superseded = true;
    let expected: Vec<MemoryId> = near[..4].iter().chain(&near[25..31]).copied().collect();
    assert_eq!(ids(&found(&world.mesh, "default", &with_old).await), expected);
    assert!(world.is_kept().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_of_the_same_names_have_each_their_own() {
    let mut world = World::new().await;
    for copy in [
        "INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, metadata, body_hash, scope,
            created_at, updated_at)
         SELECT 'other', id, agent, kind, 'other ' || content, tags, importance, metadata, body_hash, scope,
            created_at, updated_at FROM memory.memory",
        "INSERT INTO memory.memory_vector_384 (tenant, item, owner, model, embedding)
         SELECT 'other', item, owner, model, embedding FROM memory.memory_vector_384",
    ] {
        sqlx::query(copy).execute(&world.rows.pool).await.unwrap();
    }
    world.warm().await;
    let asked = question(clustered(2, 1, 20).remove(0), MODEL);
    for round in 0..40 {
        for (tenant, beginning) in [("default", "memory "), ("other", "other memory "), ("none", "-")] {
            let hits = found(&world.mesh, tenant, &asked).await;
            assert_eq!(
                hits.len(),
                if tenant == "none" { 0 } else { K },
                "{tenant}, round {round}"
            );
            assert!(
                hits.iter().all(|hit| hit.memory.content.starts_with(beginning)),
                "{tenant}: {hits:?}"
            );
        }
    }
    // What changes in one of them changes nothing in the other.
    let done = sqlx::query("DELETE FROM memory.memory_vector_384 WHERE tenant = 'other' AND item <> $1::uuid")
        .bind(uuid(&world.all[0].0))
        .execute(&world.rows.pool);
    done.await.unwrap();
    assert_eq!(found(&world.mesh, "other", &asked).await.len(), 1);
    assert_eq!(found(&world.mesh, "default", &asked).await.len(), K);
}

/// The classical hole of numbers that count up: this one began before the vectors were read, and ends after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_was_open_when_the_vectors_were_read_is_seen_once_it_commits() {
    let mut world = World::new().await;
    let late = world.rows.put(&ann(), "agent", &["late".to_owned()]).await[0];
    let vector = clustered(8, 1, 1).remove(0);
    let mut tx = world.rows.pool.begin().await.unwrap();
    let insert = "INSERT INTO memory.memory_vector_384 (tenant, item, owner, model, embedding)
        VALUES ('default', $1::uuid, 'a:ann', $2, $3::public.halfvec(384))";
    sqlx::query(insert)
        .bind(uuid(&late))
        .bind(MODEL)
        .bind(serde_json::Value::from(vector.clone()).to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    // Others commit with later ids, before and after the reading. (`is_kept` would wait for the open transaction.)
    for other in clustered(9, 3, 3) {
        world.put(other).await;
    }
    let asked = question(vector, MODEL);
    let is_late = |hits: &[Hit]| ids(hits).contains(&late);
    for _ in 0..3 {
        assert!(!is_late(&found(&world.mesh, "default", &asked).await));
    }
    wait_until(SOON, || async { horizons(&world).await > 0 }).await;
    for other in clustered(10, 3, 3) {
        world.put(other).await;
        assert!(!is_late(&found(&world.mesh, "default", &asked).await));
    }
    for _ in 0..20 {
        assert!(!is_late(&found(&world.mesh, "default", &asked).await));
    }
    tx.commit().await.unwrap();
    assert!(is_late(&found(&world.mesh, "default", &asked).await));
    assert!(world.is_kept().await, "and it was by the kept vectors");
}

async fn horizons(world: &World) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM memory.vector_horizon");
    count.fetch_one(&world.rows.pool).await.unwrap()
}

/// Two services on one database, and writers beside the searches: whoever has written finds it at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_written_finds_it_at_once_whichever_service_answers() {
    let mut world = World::new().await;
    let config = world.mesh.config();
    let service = world.mesh.context.for_service("memory");
    world.mesh.context.tasks.spawn("memory-2", async move {
        let embedder = Arc::new(HashEmbedder::new(Blocking::default()));
        memory::run_with(config, service, embedder).await.unwrap();
    });
    world.warm().await;
    let (mesh, pool) = (&world.mesh, &world.rows.pool);
    let writer = async |number: usize| {
        for (round, vector) in clustered(20 + number as u64, 25, 25).into_iter().enumerate() {
            let mut rows = Rows {
                pool: pool.clone(),
                next: (1_000 * (number + 1) + round) as u128,
            };
            let id = rows.put(&ann(), "agent", &[format!("{number} {round}")]).await;
            rows.put_vectors(MODEL, &id, std::slice::from_ref(&vector)).await;
            let asked = question(vector, MODEL);
            assert_eq!(
                found(mesh, "default", &asked).await[0].memory.id,
                id[0],
                "{number} {round}"
            );
            if round % 2 == 0 {
                let statement = "DELETE FROM memory.memory_vector_384 WHERE item = $1::uuid";
                let gone = sqlx::query(statement).bind(uuid(&id[0])).execute(pool).await;
                assert_eq!(gone.unwrap().rows_affected(), 1);
                assert!(!ids(&found(mesh, "default", &asked).await).contains(&id[0]));
            }
        }
    };
    futures::future::join_all((0..4).map(writer)).await;
    // By the service's own ways.
    for round in 0..10 {
        let content = format!("the harbour's lighthouse number {round}");
        let stored = store(json!({"agent": "ann", "content": content}));
        let stored = mesh.ask::<MemoryStore>(stored).await.unwrap();
        let query = json!({"agent": "ann", "query": content, "mode": "vector", "filters": {"scopes": ["agent"]}});
        assert_eq!(mesh.query(query.clone()).await[0].memory.id, stored.id);
        mesh.ask::<MemoryForget>(MemoryRequest { id: stored.id }).await.unwrap();
        assert!(!ids(&mesh.query(query).await).contains(&stored.id));
    }
}
