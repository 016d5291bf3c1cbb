//! Vectors, one table for each number of dimensions and kind of item.

use mesh_store::IdExt;
use mesh_types::{MemoryId, Tenant};
use pgvector::HalfVector;
use sqlx::PgConnection;

use crate::embed::{Dimensions, Embedding, Model};

/// A vector and the model that made it.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) embedding: Embedding,
    pub(crate) model: Model,
}

impl Vector {
    pub(crate) fn half(&self) -> HalfVector {
        HalfVector::from_f32_slice(&self.embedding.0)
    }
}

/// One statement for each table: `$dims` in the text's place `{}`.
macro_rules! by_dimensions {
    ($dimensions:expr, $before:expr, $after:expr) => {
        match $dimensions {
            Dimensions::D384 => concat!($before, "384", $after),
            Dimensions::D768 => concat!($before, "768", $after),
            Dimensions::D1024 => concat!($before, "1024", $after),
            Dimensions::D1536 => concat!($before, "1536", $after),
            Dimensions::D3072 => concat!($before, "3072", $after),
        }
    };
}
pub(crate) use by_dimensions;

const fn put_statement(dimensions: Dimensions) -> &'static str {
    by_dimensions!(
        dimensions,
        "INSERT INTO memory.memory_vector_",
        " (tenant, item, owner, model, embedding)
            SELECT m.tenant, m.id, m.owner, $3, $4 FROM memory.memory AS m WHERE m.tenant = $1 AND m.id = $2
            ON CONFLICT (tenant, item, model) DO UPDATE SET embedding = excluded.embedding, owner = excluded.owner"
    )
}

/// Stores a memory's vector, in the place of an older one of the same model.
pub(crate) async fn put(
    tx: &mut PgConnection,
    tenant: &Tenant,
    id: MemoryId,
    vector: &Vector,
) -> Result<(), sqlx::Error> {
    sqlx::query(put_statement(vector.model.dimensions))
        .bind(tenant.as_str())
        .bind(id.to_uuid())
        .bind(&*vector.model.name)
        .bind(vector.half())
        .execute(tx)
        .await
        .map(|_| ())
}

const fn drop_statement(dimensions: Dimensions) -> &'static str {
    by_dimensions!(
        dimensions,
        "DELETE FROM memory.memory_vector_",
        " WHERE tenant = $1 AND item = $2"
    )
}

/// Drops a memory's vectors of all models: its content changed.
pub(crate) async fn drop_all(tx: &mut PgConnection, tenant: &Tenant, id: MemoryId) -> Result<(), sqlx::Error> {
    for dimensions in Dimensions::ALL {
        sqlx::query(drop_statement(dimensions))
            .bind(tenant.as_str())
            .bind(id.to_uuid())
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}
