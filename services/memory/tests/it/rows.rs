//! Memories put straight into the tables, many at once, with vectors of models that no embedder here has.

use mesh_types::{AgentName, Id as _, MemoryId};
use serde_json::Value;
use sqlx::PgPool;

/// Rows of one agent or of the tenant.
pub(crate) struct Rows {
    pub(crate) pool: PgPool,
    /// Of the next memory's id.
    pub(crate) next: u128,
}

const PUT: &str = "
    INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, metadata, body_hash, scope,
        created_at, updated_at)
    SELECT 'default', i.id, $1, 'semantic', i.content, '{}', 0.5, '{}', '', $2, now(), now()
    FROM unnest($3::uuid[], $4::text[]) AS i (id, content)";

const PUT_VECTORS: &str = "
    INSERT INTO memory.memory_vector_384 (tenant, item, owner, model, embedding)
    SELECT m.tenant, m.id, m.owner, $1, i.embedding::public.halfvec(384)
    FROM unnest($2::uuid[], $3::text[]) AS i (id, embedding)
    JOIN memory.memory AS m ON m.tenant = 'default' AND m.id = i.id";

impl Rows {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, next: 1 }
    }

    /// With these contents, in the agent's scope or the tenant's; their ids rise.
    pub(crate) async fn put(&mut self, agent: &AgentName, scope: &str, contents: &[String]) -> Vec<MemoryId> {
        let ids: Vec<MemoryId> = (self.next..).take(contents.len()).map(MemoryId::from_u128).collect();
        self.next += contents.len() as u128;
        let uuids: Vec<String> = ids.iter().map(uuid).collect();
        sqlx::query(PUT)
            .bind(agent.as_str())
            .bind(scope)
            .bind(uuids)
            .bind(contents)
            .execute(&self.pool)
            .await
            .unwrap();
        ids
    }

    pub(crate) async fn put_vectors(&self, model: &str, ids: &[MemoryId], vectors: &[Vec<f32>]) {
        let texts: Vec<String> = vectors
            .iter()
            .map(|vector| Value::from(vector.clone()).to_string())
            .collect();
        sqlx::query(PUT_VECTORS)
            .bind(model)
            .bind(ids.iter().map(uuid).collect::<Vec<String>>())
            .bind(texts)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// As the autovacuum does it sooner or later.
    pub(crate) async fn analyze(&self) {
        sqlx::query("ANALYZE memory.memory, memory.memory_vector_384")
            .execute(&self.pool)
            .await
            .unwrap();
    }
}

/// As Postgres writes it.
pub(crate) fn uuid(id: &MemoryId) -> String {
    format!("{:032x}", id.as_u128())
}

/// Vectors around `clusters` centres; the same numbers for the same seed.
pub(crate) fn clustered(seed: u64, count: usize, clusters: usize) -> Vec<Vec<f32>> {
    let mut random = Random(0x5eed);
    let centres: Vec<Vec<f32>> = (0..clusters).map(|_| random.vector()).collect();
    let mut random = Random(seed);
    let near = |random: &mut Random, centre: &[f32]| {
        let noise = random.vector();
        centre
            .iter()
            .zip(noise)
            .map(|(centre, noise)| centre + 0.7 * noise)
            .collect()
    };
    (0..count)
        .map(|at| near(&mut random, &centres[at % clusters]))
        .collect()
}

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal: the sum of twelve even ones.
    fn normal(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64).sum();
        (sum - 6.0) as f32
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..384).map(|_| self.normal()).collect()
    }
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}
