//! One tenant tries to reach what another one has: by every endpoint, and in the database itself.

use mesh_api::Endpoint;
use mesh_api::memory::{
    ForgetRequest, Memory, MemoryErase, MemoryForget, MemoryGet, MemoryHistory, MemoryList, MemoryQuery, MemoryRequest,
    MemoryStore, MemoryUpdate, UpdateRequest,
};
use mesh_store::{Role, StoreOptions, tenant_tx};
use mesh_types::{Code, Id, MemoryId, Problem, ReceiptId};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::setup::{Mesh, store};

const SECRET: &str = "the vault opens with wintergreen";

/// What tenant `default` has: a memory, an alias that leads to it, a receipt.
struct Theirs {
    memory: Memory,
    alias: MemoryId,
    receipt: ReceiptId,
}

async fn fill(mesh: &Mesh) -> Theirs {
    let memory = mesh
        .ask::<MemoryStore>(store(
            json!({"agent": "sofia", "content": SECRET, "user": "ann", "session": "s"}),
        ))
        .await
        .unwrap();
    let alias = MemoryId::from_u128(5);
    let again = json!({"id": alias, "agent": "sofia", "content": SECRET.to_uppercase(), "user": "ann", "session": "s"});
    assert_eq!(mesh.ask::<MemoryStore>(store(again)).await.unwrap().id, memory.id);
    let receipt = ReceiptId::from_u128(6);
    let nothing: ForgetRequest = serde_json::from_value(json!({"id": receipt, "filter": {"user": "nobody"}})).unwrap();
    mesh.ask::<MemoryErase>(nothing).await.unwrap();
    Theirs { memory, alias, receipt }
}

struct Thief<'a>(&'a Mesh);

impl Thief<'_> {
    async fn ask<E: Endpoint>(&self, request: E::Request) -> Result<E::Reply, Problem> {
        self.0.context.bus.call::<E>(&self.0.caller("other"), &request).await
    }

    /// What the thief is told of an id that is somebody's is what it is told of one that nobody has.
    async fn same<E: Endpoint>(&self, theirs: E::Request, nobodys: E::Request, ids: [MemoryId; 2])
    where
        E::Reply: std::fmt::Debug,
    {
        let [of_theirs, of_nobodys] = [self.ask::<E>(theirs).await, self.ask::<E>(nobodys).await]
            .map(|result| result.expect_err("nothing to find"));
        let plain = |problem: Problem, id: MemoryId| {
            let text = serde_json::to_value(Problem {
                request_id: None,
                ..problem
            })
            .unwrap()
            .to_string();
            text.replace(&id.to_string(), "ID")
        };
        let told = plain(of_theirs, ids[0]);
        assert_eq!(told, plain(of_nobodys, ids[1]));
        assert!(!told.contains("wintergreen"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_learns_nothing_of_anothers_memories_by_any_id() {
    let mesh = Mesh::start().await;
    let theirs = fill(&mesh).await;
    let thief = Thief(&mesh);
    let nobodys = MemoryId::from_u128(404);
    for id in [theirs.memory.id, theirs.alias] {
        let ids = [id, nobodys];
        let [a, b] = ids.map(|id| MemoryRequest { id });
        thief.same::<MemoryGet>(a.clone(), b.clone(), ids).await;
        thief.same::<MemoryHistory>(a.clone(), b.clone(), ids).await;
        thief.same::<MemoryForget>(a, b, ids).await;
        let [a, b] = ids.map(|id| {
            let change = serde_json::from_value(json!({"content": "mine", "version": 1})).unwrap();
            UpdateRequest { id, change }
        });
        thief.same::<MemoryUpdate>(a, b, ids).await;
        for field in ["supersedes", "derived_from"] {
            let [a, b] = ids.map(|id| {
                let mut value = json!({"agent": "sofia", "content": "mine", "scope": "tenant"});
                value[field] = json!([id]);
                store(value)
            });
            thief.same::<MemoryStore>(a, b, ids).await;
        }
        // The id itself is free for the thief: what it stores under it is its own.
        let own = store(json!({"id": id, "agent": "sofia", "content": "my own"}));
        let stored = thief.ask::<MemoryStore>(own).await.unwrap();
        assert_eq!(
            (stored.id, stored.seen, stored.content.as_str()),
            (
                if id == theirs.alias { theirs.memory.id } else { id },
                if id == theirs.alias { 2 } else { 1 },
                "my own"
            )
        );
    }
    let untouched = mesh.ask::<MemoryGet>(MemoryRequest { id: theirs.alias }).await.unwrap();
    assert_eq!(
        (untouched.content.as_str(), untouched.version, untouched.superseded_by),
        (SECRET, 1, None)
    );
    assert_eq!(untouched.seen, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_finds_nothing_of_anothers_by_text_vector_filter_or_receipt() {
    let mesh = Mesh::start().await;
    let theirs = fill(&mesh).await;
    let thief = Thief(&mesh);
    for query in [
        json!({"agent": "sofia", "query": SECRET, "k": 100}),
        json!({"agent": "sofia", "query": SECRET, "k": 100, "mode": "text"}),
        json!({"agent": "sofia", "query": SECRET, "k": 100, "filters": {"user": "ann", "session": "s",
            "scopes": ["tenant", "agent", "session", "user"]}}),
        json!({"agent": "sofia", "query": "", "vector": vec![0.05; 384], "k": 100}),
    ] {
        let found = thief
            .ask::<MemoryQuery>(serde_json::from_value(query.clone()).unwrap())
            .await
            .unwrap();
        assert!(found.items.is_empty(), "{query}: {found:?}");
    }
    for filter in [
        json!({}),
        json!({"agent": "sofia"}),
        json!({"user": "ann"}),
        json!({"session": "s"}),
    ] {
        let page = thief
            .ask::<MemoryList>(serde_json::from_value(filter).unwrap())
            .await
            .unwrap();
        assert!(page.items.is_empty() && page.next.is_none());
    }
    let erase = |value: Value| thief.ask::<MemoryErase>(serde_json::from_value(value).unwrap());
    for filter in [
        json!({"ids": [theirs.memory.id, theirs.alias]}),
        json!({"user": "ann"}),
        json!({"agent": "sofia"}),
    ] {
        assert_eq!(erase(json!({"filter": filter})).await.unwrap().forgotten, 0);
    }
    // Their receipt's id is free here, whatever its body.
    let own = erase(json!({"id": theirs.receipt, "filter": {"user": "somebody"}}))
        .await
        .unwrap();
    assert_eq!((own.id, own.forgotten), (theirs.receipt, 0));
    // The same text and the same id do not meet across tenants.
    let same = store(json!({"agent": "sofia", "content": SECRET, "user": "ann", "session": "s"}));
    assert_eq!(thief.ask::<MemoryStore>(same).await.unwrap().seen, 1);
    let conflict = store(json!({"id": theirs.alias, "agent": "sofia", "content": "another body"}));
    assert!(
        !thief
            .ask::<MemoryStore>(conflict)
            .await
            .is_err_and(|problem| problem.is(Code::MemoryConflict))
    );
}

/// Tables of the schema, in an order in which each comes after those that it refers to.
async fn tables(pool: &PgPool) -> Vec<String> {
    let mut tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'memory' AND c.relkind IN ('r', 'p') ORDER BY c.relname",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let refers: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.conrelid::regclass::text, c.confrelid::regclass::text FROM pg_constraint c
         JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = 'memory' AND c.contype = 'f'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut ordered: Vec<String> = Vec::new();
    while !tables.is_empty() {
        let is_ready = |table: &String| {
            let name = format!("memory.{table}");
            refers
                .iter()
                .filter(|(from, to)| *from == name && *to != name)
                .all(|(_, to)| ordered.iter().any(|done| format!("memory.{done}") == *to))
        };
        let ready: Vec<String> = tables.iter().filter(|table| is_ready(table)).cloned().collect();
        assert!(!ready.is_empty(), "tables refer to each other in a circle: {tables:?}");
        tables.retain(|table| !ready.contains(table));
        ordered.extend(ready);
    }
    ordered
}

/// A row of tenant `default` in the table, with some value in each column that must have one.
async fn fill_table(pool: &PgPool, table: &str) {
    let columns: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT column_name::text, data_type::text, coalesce(nullif(udt_name, ''), '')::text
         FROM information_schema.columns WHERE table_schema = 'memory' AND table_name = $1
         AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO' AND is_generated = 'NEVER'",
    )
    .bind(table)
    .fetch_all(pool)
    .await
    .unwrap();
    let id = "'00000000-0000-0000-0000-000000000001'";
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, kind, udt) in columns {
        let dims = table.rsplit('_').next().unwrap_or_default();
        let value = match (name.as_str(), kind.as_str()) {
            ("tenant", _) => "'default'".to_owned(),
            ("kind", _) => "'episodic'".to_owned(),
            (_, "uuid") => id.to_owned(),
            (_, "text") => "'x'".to_owned(),
            (_, "ARRAY") => "'{}'".to_owned(),
            (_, "boolean") => "false".to_owned(),
            (_, "bytea") => "'\\x00'".to_owned(),
            ("dimensions", _) => "384".to_owned(),
            (_, "integer" | "bigint" | "double precision") => "1".to_owned(),
            (_, "timestamp with time zone") => "now()".to_owned(),
            (_, "USER-DEFINED") if udt == "halfvec" => format!("array_fill(0.5::real, ARRAY[{dims}])::public.halfvec"),
            other => panic!("{table}.{name}: say here what to put into {other:?}"),
        };
        names.push(name);
        values.push(value);
    }
    if table == "embed_queue" {
        names.push("memory".to_owned());
        values.push(id.to_owned());
    }
    let statement = format!(
        "INSERT INTO memory.{table} ({}) VALUES ({})",
        names.join(", "),
        values.join(", ")
    );
    sqlx::query(AssertSqlSafe(statement.clone()))
        .execute(pool)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_behind_row_level_security_and_shows_another_tenant_nothing() {
    let database = mesh_testkit::TestDatabase::create().await;
    let owner = database.pool().await;
    let tables = tables(&owner).await;
    assert!(tables.len() >= 25, "{tables:?}");
    let guarded: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'memory' AND c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
             SELECT FROM pg_policies p WHERE p.schemaname = 'memory' AND p.tablename = c.relname
             AND p.qual LIKE '%tenant = current_setting(''mesh.tenant''%'
             AND p.with_check LIKE '%tenant = current_setting(''mesh.tenant''%')",
    )
    .fetch_all(&owner)
    .await
    .unwrap();
    let open: Vec<&String> = tables.iter().filter(|table| !guarded.contains(table)).collect();
    assert!(open.is_empty(), "without row level security: {open:?}");
    for table in &tables {
        fill_table(&owner, table).await;
    }
    let options = StoreOptions {
        url: database.url().to_owned(),
        role: Role::Memory,
        connections_max: 1,
    };
    let pool = mesh_store::connect(&options).await.unwrap();
    for (tenant, expected) in [("default", true), ("other", false)] {
        for table in &tables {
            let mut tx = tenant_tx(&pool, &tenant.parse().unwrap()).await.unwrap();
            let statement = format!("SELECT count(*) FROM memory.{table}");
            let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
                .fetch_one(&mut *tx)
                .await
                .unwrap();
            assert_eq!(count > 0, expected, "{table} as {tenant}: {count}");
        }
    }
    // What the loops may see of all tenants: ids, times and names, and no table that holds a text of somebody's.
    let mut tx = mesh_store::every_tenant_tx(&pool).await.unwrap();
    let mut seen = Vec::new();
    for table in &tables {
        let statement = format!("SELECT count(*) FROM memory.{table}");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        if count > 0 {
            seen.push(table.as_str());
        }
    }
    for holds_text in ["memory", "revision", "chunk", "document", "receipt", "alias"] {
        assert!(
            !seen.contains(&holds_text),
            "the loops see {holds_text} of every tenant"
        );
    }
}
