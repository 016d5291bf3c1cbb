//! `mesh backup` and `mesh restore` as the users that `mesh setup` and `mesh seed` make for them: the one reads all and
//! changes nothing, the other one sees whether services answer.

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{Installation, made};
use crate::harness::until;

pub(super) async fn copied_and_brought_back(mesh: &mut Installation) {
    let file = mesh.folder.path().join("copy.tar");
    let file = file.to_str().unwrap();
    let reads = made(&mesh.folder, "backup/database-url");
    let told = mesh
        .as_user("backup", &reads, &["backup", "--to", file, "--json"])
        .await
        .json();
    assert!(told["tables"]["execution.invocation"].as_u64() > Some(0), "{told}");
    assert!(told["streams"]["EVENTS"].as_u64() > Some(0), "{told}");
    changes_nothing(&reads).await;

    let everything = mesh.postgres.url();
    let restore = ["restore", file, "--replace", "--yes", "--json"];
    let refused = mesh.as_user("restore", &everything, &restore).await;
    assert!(
        refused.code == Some(1) && refused.stderr.contains("services answer on this NATS"),
        "{refused:?}"
    );
    mesh.kill_services();
    let restored: Value = mesh.as_user("restore", &everything, &restore).await.json();
    assert_eq!(restored["tables"], told["tables"]);
    mesh.serve();
    until(90, "the gateway is healthy", || async {
        mesh.http.try_get("/health").await.filter(|health| health.status == 200)
    })
    .await;
    mesh.completed("sofia", json!({"text": "after the restore"})).await;
}

async fn changes_nothing(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for statement in [
        "DELETE FROM registry.agent",
        "SET default_transaction_read_only = off; DELETE FROM registry.agent",
        "CREATE TABLE public.mine ()",
        "SET ROLE mesh_identity",
        "SET ROLE mesh",
    ] {
        let error = sqlx::raw_sql(statement).execute(&mut connection).await.unwrap_err();
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // Not its right, or read only.
        assert!(
            ["42501", "25006"].contains(&code.as_deref().unwrap_or_default()),
            "{statement}: {error}"
        );
    }
}
