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
        let message = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap();
        serde_json::from_slice::<Event>(&message.payload).unwrap()
    };
    let (first, second) = (next().await, next().await);
    let agent = stored.agent.clone();
    assert_eq!(first.fact, Fact::MemoryStored { memory: stored.id, agent: agent.clone() });
    assert_eq!(second.fact, Fact::MemoryForgotten { memory: stored.id, agent });
    assert_eq!((first.actor.as_str(), first.tenant.as_str()), ("user:ann", "default"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_keeps_tenants_apart() {
    let mesh = Mesh::start().await;
    mesh.store("mine").await;
    let options =
        StoreOptions { url: mesh.database.url().to_owned(), role: Role::Memory, connections_max: 1 };
    let pool = mesh_store::connect(&options).await.unwrap();
    for (tenant, expected) in [("default", 1_i64), ("other", 0)] {
        let mut tx = tenant_tx(&pool, &tenant.parse().unwrap()).await.unwrap();
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM memory.memory").fetch_one(&mut *tx).await;
        assert_eq!(count.unwrap(), expected, "{tenant}");
    }
    let mut tx = tenant_tx(&pool, &"other".parse().unwrap()).await.unwrap();
    let forged = sqlx::query("INSERT INTO memory.forgotten (tenant, memory, at) VALUES ('default', gen_random_uuid(), now())")
        .execute(&mut *tx)
        .await;
    assert!(forged.unwrap_err().to_string().contains("row-level security"));
    drop(tx);
    let none = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM memory.memory").fetch_one(&pool).await;
    assert_eq!(none.unwrap(), 0, "without a tenant there is nothing to see");
}

#[tokio::test(flavor = "multi_thread")]
async fn tmp_explain() {
    let mesh = Mesh::start().await;
    mesh.store("mine").await;
    let pool = mesh.database.pool().await;
    sqlx::query("INSERT INTO memory.memory (tenant,id,agent,kind,content,tags,importance,metadata,body_hash,embedding_384,embedding_model,created_at,updated_at)
      SELECT 'default', gen_random_uuid(), CASE WHEN n % 4 = 0 THEN 'sofia' ELSE 'bob' END, 'episodic', 'text '||n, '{}', 0.5, '{}', '\\x00', (SELECT array_agg(random()-0.5)::real[] FROM generate_series(1,384) g WHERE g+n > 0)::public.halfvec, 'hash-384', now(), now() FROM generate_series(1,8000) n").execute(&pool).await.unwrap();
    let options = StoreOptions { url: mesh.database.url().to_owned(), role: Role::Memory, connections_max: 1 };
    let role = mesh_store::connect(&options).await.unwrap();
    for (graph, order) in [(true, "m.embedding_384 OPERATOR(public.<=>) v.v"), (false, "(m.embedding_384 OPERATOR(public.<=>) v.v) + 0, m.id")] {
        let mut tx = tenant_tx(&role, &"default".parse().unwrap()).await.unwrap();
        if graph { sqlx::query("SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true), set_config('hnsw.ef_search', '100', true), set_config('enable_sort', 'off', true)").execute(&mut *tx).await.unwrap(); }
        let order = order.replace("v.v", "(SELECT embedding_384 FROM memory.memory WHERE content='mine')");
        let sql = format!("EXPLAIN ANALYZE SELECT m.id FROM memory.memory m WHERE m.tenant='default' AND m.agent='sofia' AND m.embedding_model='hash-384' AND m.tags @> '{{}}'::text[] AND (m.expires_at IS NULL OR m.expires_at > now()) ORDER BY {order} LIMIT 5");
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
        eprintln!("{}", rows.join("\n"));
    }
    let s = std::time::Instant::now();
    for _ in 0..20 { mesh.query(serde_json::json!({"agent":"sofia","query":"text 44 mine"})).await; }
    eprintln!("exact 2000 rows: {:?} each", s.elapsed()/20);
    let rows: Vec<String> = sqlx::query_scalar("EXPLAIN ANALYZE SELECT count(*) FROM (SELECT FROM memory.memory WHERE tenant = 'default' AND agent = 'sofia' LIMIT 10001) AS owner").fetch_all(&pool).await.unwrap();
    eprintln!("{}", rows.join("\n"));
}
