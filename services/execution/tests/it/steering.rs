//! Cancel, delay, deadline, limits, priority.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_api::execution::{CancelRequest, InvocationCancel, InvokeRequest, State};
use mesh_testkit::wait_until;
use mesh_types::{Code, InvocationId};
use serde_json::json;

use crate::mesh::{Mesh, SOON, request};

async fn cancel(mesh: &Mesh, id: InvocationId) -> Result<mesh_api::execution::Invocation, mesh_types::Problem> {
    mesh.ask::<InvocationCancel>(CancelRequest {
        id,
        reason: Some("not needed".into()),
    })
    .await
}

fn says(text: &str) -> InvokeRequest {
    request(json!({"payload": {"text": text}}))
}

#[tokio::test]
async fn a_queued_one_is_cancelled_before_it_runs() {
    let (mesh, _process) = Mesh::start().await;
    let delayed = request(json!({"delay_ms": 3_600_000}));
    let id = mesh.accept("noop", delayed, Duration::ZERO).await.unwrap().id;
    assert_eq!(mesh.get(id).await.state, State::Queued);
    let cancelled = cancel(&mesh, id).await.unwrap();
    assert_eq!((cancelled.state, cancelled.attempt), (State::Cancelled, 0));
    assert!(cancelled.error.unwrap().detail.contains("user:ann"));
    let again = cancel(&mesh, id).await.unwrap_err();
    assert!(again.is(Code::InvocationEnded));
    mesh.check().await;
}

#[tokio::test]
async fn a_running_one_is_cancelled_and_its_caller_hears_of_it() {
    let (mesh, _process) = Mesh::start().await;
    let (called, ()) = tokio::join!(mesh.accept("slow", says("hi"), SOON), async {
        mesh.held_models(1).await;
        let id: String = sqlx::query_scalar("SELECT invocation::text FROM execution.open")
            .fetch_one(&mesh.pool)
            .await
            .unwrap();
        let id = <InvocationId as mesh_types::Id>::from_u128(u128::from_str_radix(&id.replace('-', ""), 16).unwrap());
        let cancelled = cancel(&mesh, id).await.unwrap();
        assert_eq!(cancelled.state, State::Cancelled);
    });
    assert_eq!(called.unwrap().state, State::Cancelled);
    // What the model says now is nobody's any more.
    mesh.world.let_go(1);
    mesh.held_models(0).await;
    assert_eq!(mesh.check().await, 1);
}

#[tokio::test]
async fn a_delayed_one_waits_and_then_runs() {
    let (mesh, _process) = Mesh::start().await;
    let ended = mesh
        .accept("noop", request(json!({"delay_ms": 400})), SOON)
        .await
        .unwrap();
    assert_eq!(ended.state, State::Completed);
    let waited = ended.started_at.unwrap().since(ended.created_at);
    assert!(waited >= Duration::from_millis(400), "{waited:?}");
    mesh.check().await;
}

#[tokio::test]
async fn a_deadline_ends_what_runs_and_what_waits() {
    let (mesh, _process) = Mesh::start().await;
    let running = request(json!({"payload": {"text": "hi"}, "deadline_ms": 500}));
    let ended = mesh.accept("slow", running, SOON).await.unwrap();
    assert_eq!(ended.state, State::Failed, "{ended:?}");
    assert!(ended.error.unwrap().is(Code::DeadlineExceeded));
    let waiting = request(json!({"delay_ms": 3_600_000, "deadline_ms": 200}));
    let ended = mesh.accept("noop", waiting, SOON).await.unwrap();
    assert_eq!((ended.state, ended.attempt), (State::Failed, 0));
    assert!(ended.error.unwrap().is(Code::DeadlineExceeded));
    mesh.check().await;
}

#[tokio::test]
async fn an_agent_runs_no_more_at_once_than_its_limit() {
    let (mesh, _process) = Mesh::start().await;
    for n in 0..6 {
        mesh.accept("narrow", says(&format!("{n}")), Duration::ZERO)
            .await
            .unwrap();
    }
    for _ in 0..3 {
        mesh.held_models(2).await;
        mesh.world.let_go(2);
        wait_until(SOON, || async { mesh.world.held() <= 2 }).await;
    }
    mesh.all_ended(6).await;
    assert_eq!(mesh.world.most.load(Ordering::SeqCst), 2);
    mesh.world.assert_each_completion_ran_once(6);
    assert_eq!(mesh.check().await, 6);
}

#[tokio::test]
async fn among_those_that_wait_the_higher_priority_runs_first_then_the_older() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world
        .publish("default", "single", &crate::mesh::talker(crate::world::SLOW, 1));
    // Of one shard, and so in one queue.
    let shard = |key: &str| {
        let (tenant, agent) = ("default".parse().unwrap(), "single".parse().unwrap());
        execution::shard_of(&tenant, &agent, None, Some(key), mesh_types::Id::from_u128(0))
    };
    let keys = (0..).map(|n| format!("key-{n}")).filter(|key| shard(key) == 0);
    let keys: Vec<String> = keys.take(5).collect();
    let ask = |n: usize, priority: u8| {
        let body = request(json!({"payload": {"n": n}, "idempotency_key": keys[n], "priority": priority}));
        async { mesh.accept("single", body, Duration::ZERO).await.unwrap().id }
    };
    let mut wanted = vec![ask(0, 5).await];
    mesh.held_models(1).await;
    let (low, middle, high, second) = (ask(1, 0).await, ask(2, 5).await, ask(3, 9).await, ask(4, 9).await);
    wanted.extend([high, second, middle, low]);
    mesh.world.let_go(5);
    mesh.all_ended(5).await;
    let mut ended = Vec::new();
    for id in &wanted {
        ended.push((mesh.get(*id).await.started_at.unwrap(), *id));
    }
    let order: Vec<_> = {
        let mut sorted = ended.clone();
        sorted.sort_unstable();
        sorted.into_iter().map(|(_, id)| id).collect()
    };
    assert_eq!(order, wanted);
}
