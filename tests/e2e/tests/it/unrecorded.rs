//! Everything is killed between an effect and its record: the step runs again, with the same key, and what it did is
//! there once.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::harness::{Mesh, Script, until};
use crate::trial::Trial;

const JOURNAL: &str = "execution.record";

/// Keeps everybody from writing to a table until it is opened or Postgres dies.
struct Gate(PgConnection);

impl Gate {
    async fn close(mesh: &Mesh, table: &str) -> Self {
        let mut connection = PgConnection::connect(&mesh.state().database).await.unwrap();
        let lock = format!("BEGIN; LOCK TABLE {table} IN SHARE MODE");
        let locked = sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection);
        locked.await.unwrap();
        Self(connection)
    }

    async fn open(self) {
        self.0.close().await.unwrap();
    }
}

/// Somebody wants to write there and may not.
async fn until_waiting(pool: &PgPool, table: &str) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted";
    until(30, &format!("a writer waits for {table}"), || async {
        let count: i64 = sqlx::query_scalar(waiting).bind(table).fetch_one(pool).await.ok()?;
        (count > 0).then_some(())
    })
    .await;
}

/// The effect has happened, its record has not, and nothing is left alive.
async fn die_unrecorded(mesh: &Mesh, pool: &PgPool, journal: Gate) {
    until_waiting(pool, JOURNAL).await;
    mesh.kill_9();
    drop(journal);
    mesh.start(&[]).await;
}

#[tokio::test]
async fn an_effect_whose_record_was_lost_is_repeated_with_its_key_and_seen_once() {
    let mesh = Mesh::up().await;
    for (step, table) in [(4, "messaging.message"), (5, "memory.memory")] {
        let pool = mesh.database().await;
        let trial = Trial::prepare(&mesh).await;
        let effect = Gate::close(&mesh, table).await;
        trial.ask(&mesh).await;
        until_waiting(&pool, table).await;
        let journal = Gate::close(&mesh, JOURNAL).await;
        effect.open().await;
        die_unrecorded(&mesh, &pool, journal).await;
        trial
            .check(&mesh, 1, &format!("killed after the write to {table}"))
            .await;
        let pool = mesh.database().await;
        assert_eq!(trial.epoch_of(&pool, step - 1).await, 1, "what was recorded stands");
        assert_eq!(trial.epoch_of(&pool, step).await, 2, "{table}: it ran again");
    }
    let pool = mesh.database().await;
    let trial = Trial::prepare(&mesh).await;
    mesh.model.script(Script {
        of: trial.marker.clone(),
        delay: Duration::from_millis(800),
        fails: None,
    });
    trial.ask(&mesh).await;
    until(30, "the model is asked", || async {
        (!mesh.model.calls(&trial.marker).is_empty()).then_some(())
    })
    .await;
    let journal = Gate::close(&mesh, JOURNAL).await;
    die_unrecorded(&mesh, &pool, journal).await;
    trial.check(&mesh, 2, "killed after the model's answer").await;
}
