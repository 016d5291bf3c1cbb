//! The embedded migrations.

use mesh_store::{Role, migrate, schema_version};
use mesh_testkit::TestDatabase;
use sqlx::Connection as _;
use sqlx::migrate::Migrator;

use crate::pool_as;

#[tokio::test]
async fn migrating_twice_is_a_no_op() {
    let database = TestDatabase::create_empty().await;
    let first = migrate(database.url()).await.unwrap();
    assert!(first.applied.len() >= 5, "{first:?}");
    assert!(first.applied[0].starts_with("0001"), "{first:?}");
    assert_eq!(first.version, schema_version());
    let second = migrate(database.url()).await.unwrap();
    assert_eq!(second.applied, Vec::<String>::new());
    assert_eq!(second.version, first.version);
}

#[tokio::test]
async fn several_processes_may_migrate_at_once() {
    let (one, other) = tokio::join!(TestDatabase::create_empty(), TestDatabase::create_empty());
    let reports = tokio::join!(
        migrate(one.url()),
        migrate(one.url()),
        migrate(other.url()),
        migrate(one.url())
    );
    for report in [reports.0, reports.1, reports.2, reports.3] {
        assert_eq!(report.unwrap().version, schema_version());
    }
}

/// CONTRACT asks for no superuser where somebody else runs Postgres and has installed the extension.
#[tokio::test]
async fn an_owner_that_is_no_superuser_can_migrate_and_serve() {
    let database = TestDatabase::create_empty().await;
    let admin = database.pool().await;
    let name: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&admin)
        .await
        .unwrap();
    // Named for this test alone: roles belong to the cluster. It may grant the mesh's roles, as their maker could.
    let owner = format!("owner_of_{name}");
    let setup = format!(
        "CREATE EXTENSION vector; CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'owner';
         ALTER DATABASE {name} OWNER TO {owner}; ALTER SCHEMA public OWNER TO {owner}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(setup)).execute(&admin).await.unwrap();
    for role in Role::ALL {
        let grant = format!(
            "DO $$ BEGIN CREATE ROLE {role} NOLOGIN NOINHERIT; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
             GRANT {role} TO {owner} WITH ADMIN TRUE, INHERIT FALSE, SET TRUE",
            role = role.name()
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&admin).await.unwrap();
    }
    let (_, address) = database.url().split_once('@').unwrap();
    let url = format!("postgres://{owner}:owner@{address}");
    let migrated = migrate(&url).await;
    let served = async {
        let mut connection = sqlx::PgConnection::connect(&url).await?;
        sqlx::raw_sql("SET ROLE mesh_registry; INSERT INTO registry.tenant VALUES ('t', now(), 'x')")
            .execute(&mut connection)
            .await?;
        connection.close().await
    }
    .await;
    let cleanup = format!("REASSIGN OWNED BY {owner} TO CURRENT_USER; DROP OWNED BY {owner}; DROP ROLE {owner}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(cleanup))
        .execute(&admin)
        .await
        .unwrap();
    assert_eq!(migrated.unwrap().version, schema_version());
    served.unwrap();
}

#[tokio::test]
async fn a_database_of_a_newer_build_is_refused_with_a_reason() {
    let database = TestDatabase::create().await;
    let admin = database.pool().await;
    sqlx::query(
        "INSERT INTO public._sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', true, '', 0)",
    )
    .execute(&admin)
    .await
    .unwrap();
    let error = migrate(database.url()).await.unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(text.contains("9999"), "{text}");
}

/// Memories of before 0014: two with vectors, one of them expired, and one of a tenant that has no vector at all.
const MEMORIES_OF_0013: &str = "
    INSERT INTO memory.memory (tenant, id, agent, kind, content, tags, importance, source_invocation, source_step,
        metadata, body_hash, embedding_384, embedding_model, expires_at, created_at, updated_at)
    SELECT tenant, id::uuid, 'sofia', kind, content, '{tea}', 0.5, NULL, NULL, '{}', 'hash',
        CASE WHEN has_vector THEN array_fill(0.5, ARRAY[384])::public.halfvec(384) END,
        CASE WHEN has_vector THEN 'hash' END, expires_at, now(), now()
    FROM (VALUES
        ('a', '00000000-0000-0000-0000-000000000001', 'semantic', 'Anna likes teas', true, NULL::timestamptz),
        ('a', '00000000-0000-0000-0000-000000000002', 'working', 'Anna waits', true, now() + '1 hour'),
        ('b', '00000000-0000-0000-0000-000000000003', 'episodic', 'Bohdan waits', false, NULL)
    ) AS m (tenant, id, kind, content, has_vector, expires_at);
    INSERT INTO memory.embed_queue (tenant, memory, next_at)
        VALUES ('b', '00000000-0000-0000-0000-000000000003', now());
    INSERT INTO memory.forgotten (tenant, memory, at) VALUES ('a', '00000000-0000-0000-0000-000000000004', now());
    INSERT INTO memory.event (tenant, id, body, at)
        VALUES ('a', '00000000-0000-0000-0000-000000000005', '{}', now())";

#[tokio::test]
async fn memories_of_the_schema_before_are_all_there_after_it() {
    let database = TestDatabase::create_empty().await;
    let admin = database.pool().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let all = Migrator::new(folder).await.unwrap();
    all.run_to(13, &admin).await.unwrap();
    sqlx::raw_sql(MEMORIES_OF_0013).execute(&admin).await.unwrap();
    let report = migrate(database.url()).await.unwrap();
    assert!(report.applied[0].starts_with("0014"), "{report:?}");
    // As the service sees them: under row level security, which each step may have lifted for itself only.
    let pool = pool_as(&database, Role::Memory).await;
    let mut seen = Vec::new();
    for tenant in ["a", "b", "c"] {
        let mut tx = mesh_store::tenant_tx(&pool, &tenant.parse().unwrap()).await.unwrap();
        let counts: Vec<i64> = sqlx::query_scalar(
            "SELECT ARRAY[
                (SELECT count(*) FROM memory.memory WHERE owner = 'a:sofia' AND scope = 'agent' AND version = 1),
                (SELECT count(*) FROM memory.memory_vector_384 WHERE owner = 'a:sofia' AND model = 'hash'),
                (SELECT count(*) FROM memory.memory WHERE words @@ to_tsquery('pg_catalog.english', 'tea')),
                (SELECT count(*) FROM memory.expiry AS e JOIN memory.memory AS m ON m.id = e.memory
                    WHERE m.expires_at = e.at),
                (SELECT count(*) FROM memory.embed_queue WHERE chunk IS NULL),
                (SELECT count(*) FROM memory.tenant),
                (SELECT count(*) FROM memory.forgotten),
                (SELECT count(*) FROM memory.event)
            ]",
        )
        .fetch_one(&mut *tx)
        .await
        .unwrap();
        seen.push(counts);
    }
    assert_eq!(
        seen,
        [
            vec![2, 2, 1, 1, 0, 1, 1, 1],
            vec![1, 0, 0, 0, 1, 1, 0, 0],
            vec![0, 0, 0, 0, 0, 0, 0, 0],
        ]
    );
}
