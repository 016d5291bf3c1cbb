//! The store on a real Postgres: migrations, roles, row level security, pools, the outbox.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod isolation;
mod migrations;
mod outbox;
mod pools;

use mesh_store::{Role, StoreOptions};
use mesh_testkit::TestDatabase;
use sqlx::PgPool;

/// A pool of this role on a test's database.
async fn pool_as(database: &TestDatabase, role: Role) -> PgPool {
    let options = StoreOptions {
        url: database.url().to_owned(),
        role,
        connections_max: 3,
    };
    mesh_store::connect(&options).await.unwrap()
}
