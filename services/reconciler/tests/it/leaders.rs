//! Two reconcilers: one acts, and only under its epoch.

use std::time::Duration;

use mesh_runtime::{Context, Metrics};
use mesh_testkit::wait_until;
use tokio::runtime::Runtime;

use crate::setup::{Mesh, SOON, connect};

/// A reconciler in a runtime of its own, which is gone in the middle of everything when that is dropped.
struct Process {
    runtime: Option<Runtime>,
}

impl Process {
    async fn start(mesh: &Mesh) -> Self {
        let runtime = Runtime::new().unwrap();
        let (url, config) = (mesh.nats.url().to_owned(), mesh.config());
        let running = async move {
            let context = Context::new("reconciler", connect(&url).await, Metrics::default());
            reconciler::run(config, context).await.unwrap();
        };
        drop(runtime.spawn(running));
        Self { runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn leader(mesh: &Mesh) -> (i64, String) {
    let pool = mesh.database.pool().await;
    let row = sqlx::query_as("SELECT epoch, holder FROM reconciler.leader")
        .fetch_one(&pool)
        .await;
    row.unwrap()
}

#[tokio::test]
async fn a_killed_leader_is_followed_by_the_other_who_moves_nothing() {
    let mesh = Mesh::servers().await;
    mesh.join("kitchen", 4);
    mesh.join("cellar", 4);
    mesh.publish_agent("sofia", 1, 2);
    let mut first = Process::start(&mesh).await;
    wait_until(SOON, || async { !leader(&mesh).await.1.is_empty() }).await;
    let (epoch, holder) = leader(&mesh).await;
    let mut second = Process::start(&mesh).await;
    mesh.wait_ready(2).await;
    assert_eq!(leader(&mesh).await, (epoch, holder.clone()), "one leads, and stays");
    let before = (mesh.assignment("kitchen").await, mesh.assignment("cellar").await);
    first.kill();
    wait_until(SOON, || async { leader(&mesh).await.0 > epoch }).await;
    assert_ne!(leader(&mesh).await.1, holder);
    mesh.publish_agent("clara", 1, 1);
    wait_until(SOON, || async {
        mesh.ring().await;
        mesh.brain().await.replicas.len() == 3
    })
    .await;
    let after = (mesh.assignment("kitchen").await, mesh.assignment("cellar").await);
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        assert!(before.replicas.iter().all(|replica| after.replicas.contains(replica)));
        assert!(after.generation >= before.generation && after.epoch >= before.epoch);
    }
    second.kill();
}

#[tokio::test]
async fn a_leader_that_stops_leaves_the_lead_at_once() {
    let mesh = Mesh::servers().await;
    let mut config = mesh.config();
    // Silence alone would take longer than this test waits.
    config.leader_silence_ms = 60_000;
    let (first, second) = (
        mesh.context.for_service("reconciler"),
        mesh.context.for_service("reconciler"),
    );
    mesh.serve(&first, config.clone());
    wait_until(SOON, || async { !leader(&mesh).await.1.is_empty() }).await;
    let (epoch, holder) = leader(&mesh).await;
    first.shutdown.cancel();
    wait_until(SOON, || async { leader(&mesh).await.1.is_empty() }).await;
    mesh.serve(&second, config);
    wait_until(SOON, || async { !leader(&mesh).await.1.is_empty() }).await;
    let (next, other) = leader(&mesh).await;
    assert!(next > epoch && other != holder);
}

#[tokio::test]
async fn what_a_stale_leader_commits_is_refused() {
    let mesh = Mesh::servers().await;
    let mut config = mesh.config();
    // It neither notices by a beat nor takes over again while this test looks.
    config.leader_silence_ms = 600_000;
    mesh.join("kitchen", 4);
    mesh.serve(&mesh.context, config);
    let runs = || {
        mesh.context
            .loops
            .status("reconciler", "passes")
            .map_or(0, |status| status.passes)
    };
    let runs_again = async || {
        let before = runs();
        wait_until(SOON, || async {
            mesh.ring().await;
            runs() > before + 1
        })
        .await;
    };
    wait_until(SOON, || async {
        !leader(&mesh).await.1.is_empty() && !mesh.passes().await.is_empty()
    })
    .await;
    runs_again().await;
    let pool = mesh.database.pool().await;
    let usurp = "UPDATE reconciler.leader SET epoch = epoch + 1, holder = 'another'";
    sqlx::query(usurp).execute(&pool).await.unwrap();
    let passes = mesh.passes().await.len();
    mesh.publish_agent("sofia", 1, 2);
    runs_again().await;
    tokio::time::timeout(Duration::from_secs(1), runs_again()).await.ok();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM reconciler.replica")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(count, 0, "a replica under an epoch that is over");
    assert_eq!(mesh.passes().await.len(), passes);
    assert!(
        mesh.bus
            .kv_list(mesh_bus::Bucket::Assignments)
            .await
            .unwrap()
            .is_empty()
    );
}
