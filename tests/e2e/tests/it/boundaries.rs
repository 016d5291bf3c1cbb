//! The mesh process dies right after each single record is committed, and starts again: the invocation ends once, and
//! no recorded step runs again.

use crate::harness::{Mesh, until};
use crate::trial::Trial;

const ABORT: &str = "MESH_EXECUTION__ABORT_AFTER_SEQ";

#[tokio::test]
async fn a_kill_after_any_record_leads_to_one_end_and_repeats_no_recorded_step() {
    let mesh = Mesh::up().await;
    let undisturbed = Trial::publish(&mesh).await;
    let records = undisturbed.check(&mesh, 1, "undisturbed").await;
    assert!(records >= 8, "accepted, claimed, five steps, ended: {records}");
    for seq in 1..=records {
        mesh.kill_9();
        mesh.start(&[(ABORT, &seq.to_string())]).await;
        let trial = Trial::publish(&mesh).await;
        mesh.until_dead().await;
        mesh.kill_9();
        mesh.start(&[]).await;
        let at = format!("killed after record {seq} of {records}");
        let took = trial.check(&mesh, 1, &at).await;
        println!("{at}: ended once, after {took} records");
    }
    // What was before still stands.
    let pool = mesh.database().await;
    let ends: (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT invocation) FROM execution.record WHERE kind = 'ended'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(ends, (i64::from(records) + 1, i64::from(records) + 1));
    until(30, "nothing is open any more", || async {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM execution.open")
            .fetch_one(&pool)
            .await
            .ok()?;
        (open == 0).then_some(())
    })
    .await;
}
