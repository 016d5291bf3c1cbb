//! The same thing said twice is done once: by message, `Nats-Msg-Id`, key, id; also at once, also over shards.

use std::cell::Cell;
use std::collections::BTreeSet;

use futures::future::join_all;
use mesh_api::execution::State;
use mesh_testkit::wait_until;
use mesh_types::{Code, InvocationId};
use serde_json::json;

use crate::mesh::{Mesh, SOON, request};

#[tokio::test]
async fn a_message_whose_acceptance_was_committed_and_not_acknowledged_is_one_invocation() {
    let (mesh, process) = Mesh::start().await;
    // Both lanes have prepared the statement of what has a key, as messages have: from now on they send all of it at once.
    for n in 0..32 {
        let keyed = json!({"payload": {"n": n}, "idempotency_key": format!("key-{n}")});
        mesh.accept("noop", request(keyed), SOON).await.unwrap();
    }
    mesh.all_ended(32).await;
    // The commit waits for this lock, and does not notice that its process dies.
    let mut lock = mesh.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE execution.invocation IN SHARE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    let stored = mesh
        .publish("mesh.invoke.default.noop", r#"{"payload":{"text":"hi"}}"#)
        .await;
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INTO execution.invocation%'";
    wait_until(SOON, || async { mesh.count(waits).await == 1 }).await;
    process.kill();
    lock.rollback().await.unwrap();
    mesh.invocations(33).await;
    // Nobody acknowledged it: whoever follows gets it again.
    let client = async_nats::connect(mesh.nats.url()).await.unwrap();
    let mut stream = async_nats::jetstream::new(client)
        .get_stream("INVOCATIONS")
        .await
        .unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
    stream.delete_consumer("intake").await.unwrap();
    let _process = mesh.process("one").await;
    mesh.all_ended(33).await;
    wait_until(SOON, || {
        let stream = stream.clone();
        async move { stream.get_info().await.unwrap().state.messages == 0 }
    })
    .await;
    assert_eq!((mesh.check().await, stored.sequence), (33, 1));
}

#[tokio::test]
async fn the_same_message_id_twice_is_one_invocation() {
    let (mesh, _process) = Mesh::start().await;
    let first = mesh
        .publish_as("mesh.invoke.default.noop", "order-7", r#"{"payload":{"n":7}}"#)
        .await;
    mesh.all_ended(1).await;
    // Until the stream's own window for repeated ids is over: then the second is really stored.
    let newest = Cell::new(first.sequence);
    wait_until(SOON, || async {
        let body = r#"{ "payload" : {"n":7} }"#;
        let second = mesh.publish_as("mesh.invoke.default.noop", "order-7", body).await;
        newest.set(second.sequence);
        newest.get() != first.sequence
    })
    .await;
    mesh.publish("mesh.invoke.default.noop", "{}").await;
    mesh.all_ended(2).await;
    assert_eq!(mesh.check().await, 2);
}

#[tokio::test]
async fn the_same_key_twice_is_the_first_answer_and_another_body_is_refused() {
    let (mesh, _process) = Mesh::start().await;
    let same = || request(json!({"payload": {"a": 1, "b": 2}, "idempotency_key": "k"}));
    let first = mesh.accept("noop", same(), SOON).await.unwrap();
    let second = mesh.accept("noop", same(), SOON).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(second.state, State::Completed);
    let other = request(json!({"payload": {"a": 2}, "idempotency_key": "k"}));
    let problem = mesh.accept("noop", other, SOON).await.unwrap_err();
    assert_eq!((problem.is(Code::KeyReused), problem.status), (true, 422));
    assert_eq!(problem.field.as_deref(), Some("idempotency_key"));
    assert_eq!(mesh.check().await, 1);
}

#[tokio::test]
async fn the_same_key_16_times_at_once_is_one_invocation() {
    let (mesh, _process) = Mesh::start().await;
    let all = join_all((0..16).map(|_| {
        let same = request(json!({"payload": {"text": "hi"}, "idempotency_key": "k"}));
        mesh.accept("noop", same, SOON)
    }))
    .await;
    let ids: BTreeSet<_> = all.iter().map(|answer| answer.as_ref().unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    assert!(
        all.iter()
            .all(|answer| answer.as_ref().unwrap().state == State::Completed)
    );
    assert_eq!(mesh.check().await, 1);
}

#[tokio::test]
async fn the_same_key_16_times_at_once_over_many_shards_is_one_invocation_and_15_refusals() {
    let (mesh, _process) = Mesh::start().await;
    // Another session is another shard, and another request.
    let all = join_all((0..16).map(|n| {
        let body = request(json!({"idempotency_key": "k", "session": format!("s{n}")}));
        mesh.accept("noop", body, SOON)
    }))
    .await;
    let accepted = all.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(accepted, 1, "{all:?}");
    assert!(
        all.iter()
            .filter_map(|answer| answer.as_ref().err())
            .all(|problem| problem.is(Code::KeyReused)),
        "{all:?}"
    );
    assert_eq!(mesh.check().await, 1);
}

#[tokio::test]
async fn the_same_id_16_times_at_once_is_one_invocation() {
    let (mesh, _process) = Mesh::start().await;
    let id: InvocationId = "inv_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
    let all = join_all((0..16).map(|_| mesh.accept("noop", request(json!({"invocation_id": id})), SOON))).await;
    assert!(all.iter().all(|answer| answer.as_ref().unwrap().id == id), "{all:?}");
    // In another shard, too, where nobody knows of the first.
    let elsewhere = join_all((0..8).map(|n| {
        let body = request(json!({"invocation_id": id, "session": format!("s{n}")}));
        mesh.accept("noop", body, SOON)
    }))
    .await;
    assert!(
        elsewhere
            .iter()
            .all(|answer| answer.as_ref().unwrap_err().is(Code::KeyReused)),
        "{elsewhere:?}"
    );
    assert_eq!(mesh.check().await, 1);
}

#[tokio::test]
async fn a_repeated_call_waits_for_the_end_of_the_first() {
    let (mesh, _process) = Mesh::start().await;
    let same = || request(json!({"payload": {"text": "hi"}, "idempotency_key": "k"}));
    let (first, second, ()) = tokio::join!(
        mesh.accept("slow", same(), SOON),
        mesh.accept("slow", same(), SOON),
        async {
            mesh.held_models(1).await;
            mesh.world.let_go(1);
        }
    );
    assert_eq!(first.unwrap(), second.unwrap());
    mesh.world.assert_each_completion_ran_once(1);
}
