//! The embedded migrations.

use mesh_store::{Role, migrate, schema_version};
use mesh_testkit::TestDatabase;
use sqlx::Connection as _;

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
