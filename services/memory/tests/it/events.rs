//! Facts on EVENTS, and row level security in the database itself.

use std::time::Duration;

use mesh_api::memory::{MemoryForget, MemoryRequest};
use mesh_store::{Role, StoreOptions, tenant_tx};
use mesh_types::event::{Event, Fact};
use mesh_types::subject::Filter;

use crate::setup::Mesh;

#[tokio::test(flavor = "multi_thread")]
async fn storing_and_forgetting_are_told_once_each() {
    let mesh = Mesh::start().await;
    let filter = Filter::EventsOf("default".parse().unwrap());
    let mut events = mesh.context.bus.subscribe(&filter).await.unwrap();
    let stored = mesh.store("to be told").await;
    mesh.ask::<MemoryForget>(MemoryRequest { id: stored.id }).await.unwrap();
    let mut next = async || {
        let message = tokio::time::timeout(Duration::from_secs(30), events.next())
            .await
            .unwrap()
            .unwrap();
        serde_json::from_slice::<Event>(&message.payload).unwrap()
    };
    let (first, second) = (next().await, next().await);
    let agent = stored.agent.clone();
    assert_eq!(
        first.fact,
        Fact::MemoryStored {
            memory: stored.id,
            agent: agent.clone()
        }
    );
    assert_eq!(
        second.fact,
        Fact::MemoryForgotten {
            memory: stored.id,
            agent
        }
    );
    assert_eq!((first.actor.as_str(), first.tenant.as_str()), ("user:ann", "default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_keeps_tenants_apart() {
    let mesh = Mesh::start().await;
    mesh.store("mine").await;
    let options = StoreOptions {
        url: mesh.database.url().to_owned(),
        role: Role::Memory,
        connections_max: 1,
    };
    let pool = mesh_store::connect(&options).await.unwrap();
    for (tenant, expected) in [("default", 1_i64), ("other", 0)] {
        let mut tx = tenant_tx(&pool, &tenant.parse().unwrap()).await.unwrap();
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM memory.memory")
            .fetch_one(&mut *tx)
            .await;
        assert_eq!(count.unwrap(), expected, "{tenant}");
    }
    let mut tx = tenant_tx(&pool, &"other".parse().unwrap()).await.unwrap();
    let forged =
        sqlx::query("INSERT INTO memory.forgotten (tenant, memory, at) VALUES ('default', gen_random_uuid(), now())")
            .execute(&mut *tx)
            .await;
    assert!(forged.unwrap_err().to_string().contains("row-level security"));
    drop(tx);
    let none = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM memory.memory")
        .fetch_one(&pool)
        .await;
    assert_eq!(none.unwrap(), 0, "without a tenant there is nothing to see");
}
