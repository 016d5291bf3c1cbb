//! The right to erasure: what is taken, what stays, and that nothing of it is left anywhere.

use std::sync::atomic::Ordering;

use mesh_api::memory::{
    ForgetRequest, Memory, MemoryChange, MemoryErase, MemoryForget, MemoryGet, MemoryRequest, MemoryStore,
    MemoryUpdate, Receipt, UpdateRequest,
};
use mesh_types::{Code, Id, MemoryId, Problem, ReceiptId};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::PgPool;

use crate::embedders::Switched;
use crate::setup::{Mesh, store};

async fn erase(mesh: &Mesh, value: Value) -> Result<Receipt, Problem> {
    let request: ForgetRequest = serde_json::from_value(value).unwrap();
    mesh.ask::<MemoryErase>(request).await
}

async fn put(mesh: &Mesh, value: Value) -> Memory {
    mesh.ask::<MemoryStore>(store(value)).await.unwrap()
}

async fn is_there(mesh: &Mesh, id: MemoryId) -> bool {
    mesh.ask::<MemoryGet>(MemoryRequest { id }).await.is_ok()
}

fn digest(ids: &[MemoryId]) -> String {
    let mut ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.sort();
    let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
    hex::encode(Sha256::digest(text))
}

/// Every text, array of texts, words and bytes of every table of the schema, as one text.
async fn all_that_is_kept(pool: &PgPool) -> String {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.table_name::text, c.column_name::text FROM information_schema.columns c
         JOIN information_schema.tables t USING (table_schema, table_name)
         WHERE c.table_schema = 'memory' AND t.table_type = 'BASE TABLE'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(columns.len() > 100, "the walk sees the columns: {}", columns.len());
    let mut kept = String::new();
    for (table, column) in columns {
        // Bytes read as text too, as far as they are some.
        let statement = format!(
            "SELECT coalesce(string_agg(CASE WHEN pg_typeof({column}) = 'bytea'::regtype
                THEN encode({column}::text::bytea, 'escape') ELSE {column}::text END, ' '), '') FROM memory.{table}"
        );
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(pool)
            .await
            .unwrap();
        kept.push_str(&text);
        kept.push('\n');
    }
    kept.to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_what_was_erased_is_left_in_any_table() {
    let (embedder, is_down) = Switched::new();
    let mesh = Mesh::start_with(embedder, |config| config.embed_retry_ms = 60_000).await;
    let secret = "zyzzyva";
    let first = put(
        &mesh,
        json!({"agent": "sofia", "content": format!("the word is {secret}"), "user": "ann", "tags": [secret],
            "metadata": {"user_message": secret}}),
    )
    .await;
    // A history, an alias, a memory that it replaced, one made of it, one that waits for its vector.
    put(
        &mesh,
        json!({"agent": "sofia", "content": format!("The word is {secret}!"), "user": "ann", "tags": [secret],
        "metadata": {"user_message": secret}}),
    )
    .await;
    let change = MemoryChange {
        content: Some(format!("the word was {secret}")),
        ..MemoryChange::default()
    };
    mesh.ask::<MemoryUpdate>(UpdateRequest { id: first.id, change })
        .await
        .unwrap();
    put(
        &mesh,
        json!({"agent": "sofia", "content": format!("no longer {secret}"), "user": "ann",
        "supersedes": [first.id]}),
    )
    .await;
    is_down.store(true, Ordering::SeqCst);
    let waiting = put(
        &mesh,
        json!({"agent": "sofia", "content": format!("{secret} waits"), "user": "ann"}),
    )
    .await;
    put(
        &mesh,
        json!({"agent": "sofia", "content": format!("people say {secret}"), "type": "semantic",
        "derived_from": [waiting.id]}),
    )
    .await;
    let kept = put(&mesh, json!({"agent": "sofia", "content": "quartz", "user": "bob"})).await;
    let pool = mesh.database.pool().await;
    assert!(all_that_is_kept(&pool).await.contains(secret));

    let receipt = erase(&mesh, json!({"filter": {"user": "ann"}})).await.unwrap();
    assert_eq!((receipt.forgotten, receipt.derived), (4, 1));
    let left = all_that_is_kept(&pool).await;
    assert!(!left.contains(secret), "{left}");
    assert!(left.contains("quartz") && is_there(&mesh, kept.id).await);
    check_empty(&pool, &["erasure", "erasure_item", "revision", "alias", "derived"]).await;
}

async fn check_empty(pool: &PgPool, tables: &[&str]) {
    for table in tables {
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM memory.{table}")))
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(count, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_tells_what_was_taken_and_comes_back_the_same() {
    let mesh = Mesh::start().await;
    let [one, two] = [1, 2].map(|number| {
        put(
            &mesh,
            json!({"id": MemoryId::from_u128(number), "agent": "sofia", "content": format!("note {number}"),
            "session": "s"}),
        )
    });
    let (one, two) = (one.await, two.await);
    let made = put(
        &mesh,
        json!({"agent": "boris", "content": "made of it", "scope": "tenant"}),
    )
    .await;
    let made_of_made = put(
        &mesh,
        json!({"agent": "boris", "content": "made of what was made of it",
        "derived_from": [made.id]}),
    )
    .await;
    sqlx::query("INSERT INTO memory.derived SELECT tenant, $1, $2 FROM memory.tenant")
        .bind(uuid::Uuid::from_u128(made.id.as_u128()))
        .bind(uuid::Uuid::from_u128(two.id.as_u128()))
        .execute(&mesh.database.pool().await)
        .await
        .unwrap();
    let id = ReceiptId::from_u128(7);
    let request = json!({"id": id, "filter": {"session": "s"}});
    let mut rehearsal = request.clone();
    rehearsal["dry_run"] = json!(true);
    let expected = [one.id, two.id, made.id, made_of_made.id];
    let planned = erase(&mesh, rehearsal.clone()).await.unwrap();
    assert_eq!((planned.forgotten, planned.derived, planned.dry_run), (4, 2, true));
    assert_eq!(planned.ids_sha256, digest(&expected));
    assert!(is_there(&mesh, one.id).await, "a rehearsal takes nothing");

    let calls = (0..6).map(|_| erase(&mesh, request.clone()));
    let receipts: Vec<Receipt> = futures::future::join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    let receipt = &receipts[0];
    assert_eq!(
        (receipt.id, receipt.forgotten, receipt.derived, receipt.dry_run),
        (id, 4, 2, false)
    );
    assert_eq!(
        (receipt.ids_sha256.as_str(), receipt.by.as_str()),
        (digest(&expected).as_str(), "user:ann")
    );
    for id in expected {
        assert!(!is_there(&mesh, id).await);
    }
    stays_the_same(&mesh, request, receipt, one.id).await;
}

/// Whatever comes later is not of it, and brings nothing back.
async fn stays_the_same(mesh: &Mesh, request: Value, receipt: &Receipt, one: MemoryId) {
    let id = receipt.id;
    put(mesh, json!({"agent": "sofia", "content": "note 3", "session": "s"})).await;
    assert_eq!(
        &erase(mesh, request).await.unwrap(),
        receipt,
        "what came later is not of this receipt"
    );
    let other = erase(mesh, json!({"id": id, "filter": {"session": "t"}}))
        .await
        .unwrap_err();
    assert!(other.is(Code::MemoryConflict) && other.field.as_deref() == Some("id"));
    let again = erase(mesh, json!({"filter": {"session": "s"}})).await.unwrap();
    assert_eq!((again.forgotten, again.derived), (1, 0));
    let late = mesh
        .ask::<MemoryStore>(store(
            json!({"id": one, "agent": "sofia", "content": "note 1", "session": "s"}),
        ))
        .await;
    assert!(late.unwrap_err().is(Code::MemoryConflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_condition_takes_its_own_and_all_must_hold() {
    let mesh = Mesh::start().await;
    let invocation = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let empty = erase(&mesh, json!({"filter": {}})).await.unwrap_err();
    assert_eq!((empty.status, empty.field.as_deref()), (400, Some("filter")));
    let a = put(
        &mesh,
        json!({"agent": "sofia", "content": "a", "tags": ["x", "y"], "type": "semantic"}),
    )
    .await;
    put(&mesh, json!({"agent": "sofia", "content": "b", "tags": ["x"]})).await;
    put(
        &mesh,
        json!({"agent": "boris", "content": "c", "scope": "user", "user": "ann"}),
    )
    .await;
    put(
        &mesh,
        json!({"agent": "boris", "content": "d", "source": {"invocation": invocation, "step": 1}}),
    )
    .await;
    put(&mesh, json!({"agent": "boris", "content": "e"})).await;
    // Known already, it came from that invocation too.
    put(
        &mesh,
        json!({"agent": "boris", "content": "E.", "source": {"invocation": invocation, "step": 2}}),
    )
    .await;
    for (filter, count) in [
        (json!({"agent": "sofia"}), 2),
        (json!({"agent": "nobody"}), 0),
        (json!({"tags": ["x"]}), 2),
        (json!({"tags": ["x", "y"]}), 1),
        (json!({"type": "semantic", "agent": "boris"}), 0),
        (json!({"scope": "user"}), 1),
        (json!({"user": "ann", "agent": "boris"}), 1),
        (json!({"invocation": invocation}), 2),
        (json!({"ids": [a.id, MemoryId::from_u128(99)]}), 1),
        (json!({"before": a.created_at}), 0),
        (json!({"before": "2099-01-01T00:00:00Z"}), 5),
    ] {
        let receipt = erase(&mesh, json!({"filter": filter, "dry_run": true})).await.unwrap();
        assert_eq!(receipt.forgotten, count, "{filter}");
    }
    let receipt = erase(&mesh, json!({"filter": {"invocation": invocation}}))
        .await
        .unwrap();
    assert_eq!(receipt.forgotten, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_derived_is_kept_on_demand_and_frees_what_it_replaced() {
    let mesh = Mesh::start().await;
    let source = put(
        &mesh,
        json!({"agent": "sofia", "content": "Anna ordered tea on Monday", "user": "ann"}),
    )
    .await;
    let other = put(
        &mesh,
        json!({"agent": "sofia", "content": "Bohdan ordered tea on Friday"}),
    )
    .await;
    let summary = put(
        &mesh,
        json!({"agent": "sofia", "content": "all order tea", "type": "semantic",
        "derived_from": [source.id, other.id], "supersedes": [other.id]}),
    )
    .await;
    let kept = erase(
        &mesh,
        json!({"filter": {"ids": [source.id]}, "keep_derived": true, "dry_run": true}),
    )
    .await
    .unwrap();
    assert_eq!((kept.forgotten, kept.derived), (1, 0));
    let receipt = erase(&mesh, json!({"filter": {"user": "ann"}})).await.unwrap();
    assert_eq!((receipt.forgotten, receipt.derived), (2, 1));
    assert!(!is_there(&mesh, summary.id).await);
    let freed = mesh.ask::<MemoryGet>(MemoryRequest { id: other.id }).await.unwrap();
    assert_eq!(
        freed.superseded_by, None,
        "what only the summary replaced is found again"
    );
    let is_near = || async {
        mesh.ask::<MemoryGet>(MemoryRequest { id: other.id })
            .await
            .unwrap()
            .embedded
    };
    mesh_testkit::wait_until(std::time::Duration::from_secs(30), is_near).await;
    let stored = mesh
        .ask::<MemoryStore>(store(json!({"agent": "sofia", "content": "late summary",
        "derived_from": [source.id]})))
        .await;
    assert!(
        stored.unwrap_err().is(Code::MemoryNotFound),
        "nothing is made of what was erased"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn forgetting_one_takes_what_it_replaced_and_what_was_made_of_it() {
    let mesh = Mesh::start().await;
    let old = put(&mesh, json!({"agent": "sofia", "content": "lives in Kyiv"})).await;
    let new = put(
        &mesh,
        json!({"agent": "sofia", "content": "lives in Lviv", "supersedes": [old.id]}),
    )
    .await;
    let made = put(
        &mesh,
        json!({"agent": "sofia", "content": "lives in Ukraine", "derived_from": [new.id]}),
    )
    .await;
    let kept = put(&mesh, json!({"agent": "sofia", "content": "likes tea"})).await;
    assert!(
        mesh.ask::<MemoryForget>(MemoryRequest { id: new.id })
            .await
            .unwrap()
            .forgotten
    );
    for (memory, there) in [(&old, false), (&new, false), (&made, false), (&kept, true)] {
        assert_eq!(is_there(&mesh, memory.id).await, there, "{}", memory.content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_of_several_batches_that_was_interrupted_is_brought_to_its_end() {
    let mesh = Mesh::start().await;
    let pool = mesh.database.pool().await;
    let many = "INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, metadata, body_hash,
            created_at, updated_at, user_id)
        SELECT 'default', gen_random_uuid(), 'sofia', 'episodic', 'of ann ' || n, '{}', 0.5, '{}', '', now(), now(), 'ann'
        FROM generate_series(1, 2500) AS n";
    sqlx::query(many).execute(&pool).await.unwrap();
    // As a process leaves it that is killed after the first batch: half is gone, the list and the wish are there.
    let receipt = erase(&mesh, json!({"filter": {"user": "ann"}, "dry_run": true}))
        .await
        .unwrap();
    let id = ReceiptId::from_u128(11);
    let interrupted = [
        "INSERT INTO memory.erasure (tenant, id, body_hash, keep_derived, at, by)
            VALUES ('default', $1, sha256('of a request'), false, now() - interval '1 hour', 'user:ann')",
        "INSERT INTO memory.erasure_item (tenant, erasure, memory, agent, is_derived)
            SELECT 'default', $1, id, agent, false FROM memory.memory",
        "WITH gone AS (DELETE FROM memory.memory WHERE id < (SELECT percentile_disc(0.4) WITHIN GROUP (ORDER BY id)
            FROM memory.memory) RETURNING id)
            UPDATE memory.erasure_item SET is_done = true WHERE erasure = $1 AND memory IN (SELECT id FROM gone)",
    ];
    let mut tx = pool.begin().await.unwrap();
    for statement in interrupted {
        sqlx::query(statement)
            .bind(uuid::Uuid::from_u128(id.as_u128()))
            .execute(&mut *tx)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    // Any short-lived memory wakes the loop.
    put(&mesh, json!({"agent": "boris", "content": "wake", "ttl_seconds": 20})).await;
    let rows = || async {
        let counts: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM memory.memory WHERE user_id = 'ann'), (SELECT count(*) FROM memory.receipt)",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        counts == (0, 1)
    };
    mesh_testkit::wait_until(std::time::Duration::from_secs(30), rows).await;
    let (forgotten, ids): (i64, String) = sqlx::query_as("SELECT forgotten, ids_sha256 FROM memory.receipt")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!((forgotten, ids), (2_500, receipt.ids_sha256), "exact over both halves");
}
