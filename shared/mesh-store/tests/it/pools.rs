//! Pools: roles, settings, and what is true while the database is away.

use std::time::Duration;

use mesh_store::{Role, StoreOptions, connect, constraint, is_transient, probe, tenant_tx, to_problem, wait_ready};
use mesh_testkit::{TestDatabase, wait_until};
use mesh_types::{Code, Tenant};
use sqlx::PgPool;
use tokio::sync::Barrier;

use crate::pool_as;

async fn setting(pool: &PgPool, name: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(name)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_connection_is_its_services_role_and_commits_durably() {
    let database = TestDatabase::create().await;
    for role in Role::ALL {
        let pool = pool_as(&database, role).await;
        wait_ready(&pool).await;
        let user: String = sqlx::query_scalar("SELECT current_user::text")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(user, role.name());
        assert_eq!(setting(&pool, "synchronous_commit").await, "on");
        assert_eq!(setting(&pool, "application_name").await, role.application_name());
        assert_eq!(setting(&pool, "statement_timeout").await, "10s");
        let seqscan = setting(&pool, "enable_seqscan").await;
        assert_eq!(seqscan == "off", role == Role::Execution, "{role:?}: {seqscan}");
    }
}

#[tokio::test]
async fn a_pool_outlives_its_connections() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    wait_ready(&pool).await;
    let admin = database.pool().await;
    let killed = sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mesh-registry' AND datname = current_database()")
        .execute(&admin)
        .await
        .unwrap();
    assert!(killed.rows_affected() > 0);
    wait_until(Duration::from_secs(30), || async { probe(&pool)().await.is_ok() }).await;
    let user: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(user, "mesh_registry");
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_no_error_of_the_start() {
    // Bound and dropped: a port where nobody listens.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("postgres://mesh:secret@127.0.0.1:{port}/mesh");
    let pool = connect(&StoreOptions {
        url,
        role: Role::Memory,
        connections_max: 1,
    })
    .await
    .unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), wait_ready(&pool))
            .await
            .is_err()
    );
    let error = tenant_tx(&pool, &Tenant::default()).await.unwrap_err();
    assert!(is_transient(&error), "{error:?}");
    let problem = to_problem(error, "reading");
    assert!(
        problem.is(Code::Unavailable) && !problem.detail.contains("secret"),
        "{problem:?}"
    );
    assert!(probe(&pool)().await.is_err());
}

#[tokio::test]
async fn a_schema_that_is_older_than_the_build_is_waited_for() {
    let database = TestDatabase::create_empty().await;
    // The roles are the cluster's: made by a database beside it.
    let _other = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(200), wait_ready(&pool))
            .await
            .is_err()
    );
    mesh_store::migrate(database.url()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), wait_ready(&pool))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_repeating_it() {
    let options = StoreOptions {
        url: "nonsense s3cret".into(),
        role: Role::Memory,
        connections_max: 1,
    };
    let error = connect(&options).await.unwrap_err();
    assert!(!format!("{error} {options:?}").contains("s3cret"), "{error}");
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_the_callers_error() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    let error = sqlx::query("INSERT INTO registry.tenant VALUES ($1, now(), 'x')")
        .bind("a\0b")
        .execute(&pool)
        .await
        .unwrap_err();
    let problem = to_problem(error, "creating a tenant");
    assert_eq!(problem.status, 400, "{problem:?}");
    // The connection is as good as before.
    sqlx::query("INSERT INTO registry.tenant VALUES ('a', now(), 'x')")
        .execute(&pool)
        .await
        .unwrap();
    let error = sqlx::query("INSERT INTO registry.tenant VALUES ('a', now(), 'x')")
        .execute(&pool)
        .await
        .unwrap_err();
    assert_eq!(constraint(&error), Some("tenant_pkey"));
    assert!(!is_transient(&error));
}

#[tokio::test]
async fn a_deadlock_may_be_tried_again() {
    let database = TestDatabase::create().await;
    let admin = database.pool().await;
    sqlx::raw_sql(
        "CREATE TABLE public.pair (id int PRIMARY KEY, n int); INSERT INTO public.pair VALUES (1, 0), (2, 0)",
    )
    .execute(&admin)
    .await
    .unwrap();
    let both_hold_one = Barrier::new(2);
    let take = |first: i32, second: i32| {
        let (admin, both_hold_one) = (admin.clone(), &both_hold_one);
        async move {
            let mut tx = admin.begin().await?;
            sqlx::query("UPDATE public.pair SET n = 1 WHERE id = $1")
                .bind(first)
                .execute(&mut *tx)
                .await?;
            both_hold_one.wait().await;
            sqlx::query("UPDATE public.pair SET n = 1 WHERE id = $1")
                .bind(second)
                .execute(&mut *tx)
                .await?;
            tx.commit().await
        }
    };
    let results: (Result<(), sqlx::Error>, Result<(), sqlx::Error>) = tokio::join!(take(1, 2), take(2, 1));
    let error = results.0.and(results.1).unwrap_err();
    assert!(is_transient(&error), "{error}");
}
