//! What no role and no tenant may see. These tests walk the catalogue, so they hold for every later table too.

use std::collections::BTreeSet;

use mesh_store::{Role, every_tenant_tx, tenant_tx};
use mesh_testkit::TestDatabase;
use mesh_types::Tenant;
use sqlx::{AssertSqlSafe, PgPool, Row as _};

use crate::pool_as;

fn schemas() -> Vec<String> {
    Role::ALL
        .iter()
        .map(|role| role.schema().to_owned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// `schema.table` of every table with a column `tenant`.
async fn tables_of_tenants(admin: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c \
         JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant' AND NOT a.attisdropped \
         WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p') ORDER BY 1",
    )
    .bind(schemas())
    .fetch_all(admin)
    .await
    .unwrap()
}

#[tokio::test]
async fn every_table_with_a_tenant_is_under_row_level_security() {
    let database = TestDatabase::create().await;
    let admin = database.pool().await;
    let tables = tables_of_tenants(&admin).await;
    for known in [
        "registry.agent",
        "registry.artifact",
        "messaging.message",
        "execution.invocation",
    ] {
        assert!(
            tables.iter().any(|table| table == known),
            "{known} is not among {tables:?}"
        );
    }
    for table in tables {
        let row = sqlx::query(
            "SELECT c.relrowsecurity AND c.relforcerowsecurity AS is_forced, \
                    EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polpermissive \
                            AND pg_get_expr(p.polqual, c.oid) LIKE '%tenant = current_setting(''mesh.tenant''%') AS has_policy \
             FROM pg_class AS c WHERE c.oid = $1::regclass",
        )
        .bind(&table)
        .fetch_one(&admin)
        .await
        .unwrap();
        assert!(
            row.get::<bool, _>("is_forced"),
            "{table} does not force row level security"
        );
        assert!(row.get::<bool, _>("has_policy"), "{table} has no policy on its tenant");
    }
}

#[tokio::test]
async fn only_the_lanes_and_the_reader_of_dashboards_are_exempt_from_the_tenant() {
    let database = TestDatabase::create().await;
    let exempt: Vec<String> = sqlx::query_scalar(
        "SELECT format('%s.%s to %s', schemaname, policyname, roles::text) FROM pg_policies \
         WHERE schemaname = ANY($1) AND coalesce(qual, with_check) NOT LIKE '%mesh.tenant%' GROUP BY 1",
    )
    .bind(schemas())
    .fetch_all(&database.pool().await)
    .await
    .unwrap();
    // Who looks at dashboards operates the installation, and sees what steps there are, not what is in them.
    assert_eq!(
        exempt,
        [
            "execution.grafana to {mesh_grafana}",
            "execution.lanes to {mesh_execution}"
        ]
    );
}

#[tokio::test]
async fn a_role_sees_its_own_schema_only() {
    let database = TestDatabase::create().await;
    let admin = database.pool().await;
    for role in Role::ALL {
        let used: Vec<String> = sqlx::query_scalar(
            "SELECT s FROM unnest($1::text[]) AS s WHERE has_schema_privilege($2, s, 'USAGE, CREATE')",
        )
        .bind(schemas())
        .bind(role.name())
        .fetch_all(&admin)
        .await
        .unwrap();
        assert_eq!(used, [role.schema()], "schemas of {role:?}");
        let strangers: Vec<String> = sqlx::query_scalar(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c \
             JOIN pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = ANY($1) AND n.nspname <> $2 AND c.relkind IN ('r', 'p', 'v') \
                 AND has_any_column_privilege($3, c.oid, 'SELECT, INSERT, UPDATE')",
        )
        .bind(schemas())
        .bind(role.schema())
        .bind(role.name())
        .fetch_all(&admin)
        .await
        .unwrap();
        assert_eq!(
            strangers,
            Vec::<String>::new(),
            "tables of others that {role:?} may touch"
        );
    }
}

/// One row of tenant `alpha` in each table of registry and messaging, written as the service writes.
const ROWS: [(Role, &str); 2] = [
    (
        Role::Registry,
        "INSERT INTO registry.tenant VALUES ('alpha', now(), 'x');
         INSERT INTO registry.artifact VALUES ('alpha', sha256('a'), 'a', now());
         INSERT INTO registry.version VALUES ('alpha', 'sofia', 1, sha256('a'), now(), 'x');
         INSERT INTO registry.agent VALUES ('alpha', 'sofia', '{}', sha256('a'), 1, 1, now(), now(), now());
         INSERT INTO registry.node (id, tenant, owner, name, mode, sharing, sharing_tenants, sharing_users, labels,
             capabilities, slots, drained, mode_incarnation, mode_seq, registered_at, updated_at)
             VALUES ('n', 'alpha', 'ann', 'n', 'private', '{}', '{beta}', '{}', '{}', '{}', 1, false, 0, 0, now(), now());
         INSERT INTO registry.event (tenant, id, body, at) VALUES ('alpha', gen_random_uuid(), '{}', now());",
    ),
    (
        Role::Messaging,
        "INSERT INTO messaging.channel VALUES ('alpha', 'general', now(), 'x');
         INSERT INTO messaging.message (tenant, channel, id, author_kind, author_id, text, size, created_at)
             VALUES ('alpha', 'general', 'm', 'user', 'ann', 'hi', 1, now());
         INSERT INTO messaging.event (tenant, id, body, at) VALUES ('alpha', gen_random_uuid(), '{}', now());",
    ),
];

#[tokio::test]
async fn a_tenant_reads_and_writes_nothing_of_another() {
    let database = TestDatabase::create().await;
    let tables = tables_of_tenants(&database.pool().await).await;
    let alpha: Tenant = "alpha".parse().unwrap();
    let beta: Tenant = "beta".parse().unwrap();
    for (role, rows) in ROWS {
        let pool = pool_as(&database, role).await;
        let mut tx = tenant_tx(&pool, &alpha).await.unwrap();
        sqlx::raw_sql(rows).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let prefix = format!("{}.", role.schema());
        for table in tables.iter().filter(|table| table.starts_with(&prefix)) {
            let count = || sqlx::query_scalar::<_, i64>(AssertSqlSafe(format!("SELECT count(*) FROM {table}")));
            let mut tx = tenant_tx(&pool, &alpha).await.unwrap();
            assert_eq!(count().fetch_one(&mut *tx).await.unwrap(), 1, "{table} for its tenant");
            tx.rollback().await.unwrap();
            let mut tx = tenant_tx(&pool, &beta).await.unwrap();
            assert_eq!(
                count().fetch_one(&mut *tx).await.unwrap(),
                0,
                "{table} for another tenant"
            );
            tx.rollback().await.unwrap();
            assert_eq!(count().fetch_one(&pool).await.unwrap(), 0, "{table} without a tenant");
        }
        let mut tx = tenant_tx(&pool, &beta).await.unwrap();
        let error = sqlx::raw_sql(rows).execute(&mut *tx).await.unwrap_err();
        let code = error.as_database_error().unwrap().code().unwrap();
        assert!(["42501", "23505"].contains(&code.as_ref()), "{error}");
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_loop_over_all_tenants_reads_and_writes_no_tenants_rows() {
    let database = TestDatabase::create().await;
    let pool = pool_as(&database, Role::Registry).await;
    let alpha: Tenant = "alpha".parse().unwrap();
    let mut tx = tenant_tx(&pool, &alpha).await.unwrap();
    sqlx::raw_sql(ROWS[0].1).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = every_tenant_tx(&pool).await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM registry.agent")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(seen, 1);
    let touched = sqlx::query("UPDATE registry.agent SET generation = 9")
        .execute(&mut *tx)
        .await
        .unwrap();
    assert_eq!(touched.rows_affected(), 0);
    let artifacts: i64 = sqlx::query_scalar("SELECT count(*) FROM registry.artifact")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    assert_eq!(artifacts, 0);
    // `*` is no tenant that a transaction could be of.
    assert!("*".parse::<Tenant>().is_err());
    tx.rollback().await.unwrap();
}
