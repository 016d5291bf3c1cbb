//! NATS and Postgres go away in the middle of the work and come back: nothing is lost, each ends once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_api::execution::State;
use mesh_servers::{Postgres, PostgresOptions, PostgresTool, Quiet, ScratchDir};
use mesh_testkit::wait_until;
use serde_json::json;

use crate::mesh::{Mesh, SOON, request};

#[tokio::test]
async fn a_restart_of_nats_in_the_middle_loses_nothing() {
    let (mesh, _process) = Mesh::start().await;
    for n in 0..10 {
        mesh.publish("mesh.invoke.default.slow", json!({"payload": {"n": n}}).to_string())
            .await;
    }
    mesh.held_models(10).await;
    mesh.nats.restart().await;
    assert!(mesh.bus.wait_connected(SOON).await);
    // Whose answer was lost with the connection is asked again.
    mesh.world.let_go(100);
    mesh.publish("mesh.invoke.default.noop", "{}").await;
    mesh.all_ended(11).await;
    assert_eq!(
        mesh.count("SELECT count(*) FROM execution.ended WHERE outcome = 'completed'")
            .await,
        11
    );
    assert_eq!(mesh.check().await, 11);
}

#[tokio::test]
async fn what_ends_while_nats_is_away_is_told_when_it_is_back() {
    let (mesh, _process) = Mesh::start().await;
    let delayed = request(json!({"delay_ms": 1_500}));
    let id = mesh.accept("noop", delayed, Duration::ZERO).await.unwrap().id;
    mesh.nats.stop().await;
    wait_until(SOON, || async {
        mesh.count("SELECT count(*) FROM execution.ended").await == 1
    })
    .await;
    mesh.nats.restart().await;
    assert!(mesh.bus.wait_connected(SOON).await);
    assert_eq!(mesh.ended(id).await.state, State::Completed);
    assert_eq!(mesh.check().await, 1);
}

/// A Postgres of this test alone, that may be stopped and killed.
struct Own {
    postgres: Arc<Mutex<Postgres>>,
    _folder: ScratchDir,
}

impl Own {
    async fn start() -> (Self, String) {
        let (own, url) = blocking(|| {
            let tool = PostgresTool::resolve(&mut Quiet).unwrap();
            let folder = ScratchDir::new().unwrap();
            let mut options = PostgresOptions::new(folder.path().join("postgres"));
            options.fast_for_tests = true;
            let postgres = Postgres::start(&tool, options).unwrap();
            let url = postgres.url();
            (
                Self {
                    postgres: Arc::new(Mutex::new(postgres)),
                    _folder: folder,
                },
                url,
            )
        })
        .await;
        mesh_store::migrate(&url).await.unwrap();
        (own, url)
    }

    async fn change(&self, change: impl FnOnce(&mut Postgres) + Send + 'static) {
        let postgres = Arc::clone(&self.postgres);
        blocking(move || change(&mut postgres.lock().unwrap())).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn a_crash_of_postgres_in_the_middle_loses_nothing_and_repeats_no_recorded_step() {
    let (own, url) = Own::start().await;
    let mesh = Mesh::on(url, None).await;
    let _process = mesh.process("one").await;
    mesh.owned_by(&[("one", 16)]).await;
    for n in 0..10 {
        mesh.publish("mesh.invoke.default.slow", json!({"payload": {"n": n}}).to_string())
            .await;
    }
    mesh.held_models(10).await;
    // A flood of batches is under way when it dies.
    let flood = async {
        for n in 0..60 {
            mesh.publish("mesh.invoke.default.noop", json!({"payload": {"n": n}}).to_string())
                .await;
        }
    };
    let crash = own.change(|postgres| {
        postgres.kill().unwrap();
        postgres.restart().unwrap();
    });
    tokio::join!(flood, crash);
    // Their models answered while the database was away, or answer now: the results are kept until they are recorded.
    mesh.world.let_go(100);
    mesh.all_ended(70).await;
    assert_eq!(
        mesh.count("SELECT count(*) FROM execution.ended WHERE outcome = 'completed'")
            .await,
        70
    );
    mesh.world.assert_each_completion_ran_once(10);
    assert_eq!(mesh.check().await, 70);
}

#[tokio::test]
async fn requests_while_postgres_is_away_are_answered_with_a_problem_or_later() {
    let (own, url) = Own::start().await;
    let mesh = Mesh::on(url, None).await;
    let _process = mesh.process("one").await;
    mesh.owned_by(&[("one", 16)]).await;
    assert_eq!(mesh.call("noop", "{}").await["state"], "completed");
    own.change(|postgres| postgres.stop().unwrap()).await;
    let started = std::time::Instant::now();
    let problem = mesh
        .accept("noop", request(json!({})), Duration::ZERO)
        .await
        .unwrap_err();
    assert!(problem.is_transient(), "{problem:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    own.change(|postgres| postgres.restart().unwrap()).await;
    wait_until(SOON, || async {
        mesh.accept("noop", request(json!({})), SOON).await.is_ok()
    })
    .await;
    mesh.check().await;
}
