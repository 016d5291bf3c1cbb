//! Long histories: whole prompts page by page, steps that come with a result, and what is pruned.

use std::time::Duration;

use mesh_api::execution::{DeadLetterDiscard, DeadLetterRequest, InvocationGet, InvocationRequest, State, Step};
use mesh_api::journal::StepKind;
use mesh_testkit::wait_until;
use mesh_types::{DeadLetterId, InvocationId};
use serde_json::{Value, json};

use crate::forks::{Ledger, caller};
use crate::mesh::{Mesh, SOON, request};
use crate::process::config;

/// Every model step shows what its model was asked; `asked` names the invocation that did, and from step `changed` on
/// the instructions are others.
fn assert_prompts(mesh: &Mesh, steps: &[Step], changed: u32, asked: impl Fn(u32) -> InvocationId) {
    assert_eq!(steps.len(), 61);
    for step in steps.iter().filter(|step| step.kind == StepKind::Model) {
        let asked = mesh.world.prompt(asked(step.number), step.number);
        let input = step.input.as_ref().unwrap();
        assert_eq!(
            input["messages"],
            serde_json::to_value(asked).unwrap(),
            "step {}",
            step.number
        );
        let kept = input["prompt"]["keep"].as_u64().unwrap();
        // Other instructions are another beginning.
        assert_eq!(
            kept > 0,
            ![1, changed].contains(&step.number),
            "kept and new parts: {input}"
        );
    }
}

#[tokio::test]
async fn every_page_shows_whole_prompts_also_of_steps_that_a_fork_inherits() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world.publish("default", "busy", &caller(30, &json!("now")));
    let body = request(json!({"payload": {"text": "what time is it?"}}));
    let source = mesh.accept("busy", body, SOON).await.unwrap();
    assert_eq!(source.state, State::Completed, "{source:?}");
    for limit in [1, 7, 500] {
        assert_prompts(&mesh, &mesh.steps(source.id, limit).await, 1, |_| source.id);
    }
    let fork = mesh.forked(source.id, 31, &json!({"instructions": "Be quick."})).await;
    let of_fork = mesh.forked(fork.id, 51, &json!({})).await;
    let own = mesh.steps(fork.id, 7).await;
    assert_prompts(&mesh, &own, 31, |step| if step < 31 { source.id } else { fork.id });
    let steps = mesh.steps(of_fork.id, 7).await;
    assert_eq!(steps[..50], own[..50]);
    assert_prompts(&mesh, &steps, 31, |step| match step {
        ..31 => source.id,
        31..51 => fork.id,
        _ => of_fork.id,
    });
}

#[tokio::test]
async fn a_result_comes_with_its_steps_where_that_is_asked_for() {
    let (mesh, _process) = Mesh::start().await;
    mesh.world.publish("default", "busy", &caller(2, &json!("now")));
    let ask = |text: &str| json!({"payload": {"text": text}, "intermediate_steps": true});
    let ended = mesh.accept("busy", request(ask("hi")), SOON).await.unwrap();
    assert_eq!(ended.steps, Some(mesh.steps(ended.id, 50).await));
    assert_eq!(mesh.get(ended.id).await, ended);
    let called = mesh.call("busy", &ask("hi").to_string()).await;
    assert_eq!(called["steps"].as_array().unwrap().len(), 5, "{called}");
    let client = async_nats::connect(mesh.nats.url()).await.unwrap();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let mut replied = ask("hi");
    replied["reply_to"] = json!(inbox);
    mesh.publish("mesh.invoke.default.busy", replied.to_string()).await;
    let answer = tokio::time::timeout(SOON, futures::StreamExt::next(&mut answers))
        .await
        .unwrap()
        .unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["steps"].as_array().unwrap().len(), 5, "{answer}");
    let plain = mesh
        .accept("busy", request(json!({"payload": {"text": "hi"}})), SOON)
        .await
        .unwrap();
    assert_eq!((plain.steps, mesh.get(plain.id).await.steps), (None, None));
    // Too long to come along whole: all are named, and say where they are read.
    let long = mesh
        .accept("busy", request(ask(&"x".repeat(700_000))), SOON)
        .await
        .unwrap();
    let steps = long.steps.unwrap();
    assert_eq!(steps.len(), 5);
    assert!(steps[0].input.as_ref().unwrap()["messages"].is_array());
    assert!(
        steps[4].input.as_ref().unwrap()["omitted"]
            .as_str()
            .unwrap()
            .contains("steps?after=4")
    );
}

/// As if they had ended so long ago.
async fn age(mesh: &Mesh, ids: &[InvocationId], days: i32) {
    let ids: Vec<String> = ids.iter().map(|id| uuid(*id)).collect();
    sqlx::query(
        "UPDATE execution.ended SET ended_at = now() - make_interval(days => $2) WHERE invocation::text = ANY($1)",
    )
    .bind(ids)
    .bind(days)
    .execute(&mesh.pool)
    .await
    .unwrap();
}

fn uuid(id: InvocationId) -> String {
    use mesh_types::Id;
    let hex = format!("{:032x}", id.as_u128());
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

async fn is_there(mesh: &Mesh, id: InvocationId) -> bool {
    mesh.ask::<InvocationGet>(InvocationRequest { id }).await.is_ok()
}

#[tokio::test]
async fn a_fork_tree_is_pruned_whole_or_not_at_all() {
    let (mesh, one) = Mesh::start().await;
    let ledger = Ledger::new();
    let source = mesh.paid(&ledger).await.id;
    let fork = mesh.forked(source, 2, &json!({})).await.id;
    let long = json!({"payload": {"text": "x".repeat(40_000)}, "idempotency_key": "k"});
    let alone = mesh.accept("talker", request(long.clone()), SOON).await.unwrap().id;
    let young = mesh.accept("noop", request(json!({})), SOON).await.unwrap().id;
    let held = mesh.accept("noop", request(json!({})), SOON).await.unwrap().id;
    let waiting = mesh
        .accept("noop", request(json!({"delay_ms": 3_600_000})), Duration::ZERO)
        .await
        .unwrap()
        .id;
    mesh.check().await;
    one.stop().await;
    age(&mesh, &[source, alone, held], 91).await;
    age(&mesh, &[young], 89).await;
    // As if it was being forked right now.
    let mut forking = mesh.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))")
        .bind(uuid(held))
        .execute(&mut *forking)
        .await
        .unwrap();
    let one = mesh.process("one").await;
    mesh.owned_by(&[("one", 16)]).await;
    wait_until(SOON, || async { !is_there(&mesh, alone).await }).await;
    for id in [source, fork, young, held, waiting] {
        assert!(is_there(&mesh, id).await);
    }
    assert_eq!(mesh.count("SELECT count(*) FROM execution.body").await, 0);
    let repeated = mesh.accept("talker", request(long), SOON).await.unwrap_err();
    assert!(repeated.detail.contains("pruned"), "its key outlives it: {repeated:?}");
    forking.rollback().await.unwrap();
    one.stop().await;
    age(&mesh, &[source, fork], 91).await;
    let one = mesh.process("one").await;
    mesh.owned_by(&[("one", 16)]).await;
    wait_until(SOON, || async {
        !is_there(&mesh, source).await && !is_there(&mesh, held).await
    })
    .await;
    assert!(!is_there(&mesh, fork).await && is_there(&mesh, young).await && is_there(&mesh, waiting).await);
    let rows =
        "SELECT (SELECT count(DISTINCT invocation) FROM execution.record) + (SELECT count(*) FROM execution.summary)";
    assert_eq!(mesh.count(rows).await, 4, "of two that are left");
    one.stop().await;
}

#[tokio::test]
async fn a_dead_letter_keeps_its_history_until_a_person_has_settled_it() {
    let (mesh, one) = Mesh::start().await;
    let mut spec = caller(0, &json!("now"));
    spec["retry"] = json!({"attempts": 1, "backoff": "none"});
    mesh.world.publish("default", "ill", &spec);
    mesh.world.is_failing.store(true, std::sync::atomic::Ordering::SeqCst);
    let (mut all, body) = (Vec::new(), request(json!({"payload": {"text": "hi"}})));
    for _ in 0..2 {
        all.push(mesh.accept("ill", body.clone(), SOON).await.unwrap().id);
    }
    mesh.check().await;
    let letter = <DeadLetterId as mesh_types::Id>::from_u128(mesh_types::Id::as_u128(all[0]));
    mesh.ask::<DeadLetterDiscard>(DeadLetterRequest { id: letter })
        .await
        .unwrap();
    one.stop().await;
    age(&mesh, &all, 400).await;
    let mut forever = config(&mesh.database_url, "one");
    forever.history_kept_days = 0;
    let one = crate::process::Process::start(mesh.nats.url(), forever).await;
    mesh.owned_by(&[("one", 16)]).await;
    assert!(is_there(&mesh, all[0]).await && is_there(&mesh, all[1]).await);
    one.stop().await;
    let _one = mesh.process("one").await;
    mesh.owned_by(&[("one", 16)]).await;
    wait_until(SOON, || async { !is_there(&mesh, all[0]).await }).await;
    assert!(is_there(&mesh, all[1]).await);
    assert_eq!(mesh.count("SELECT count(*) FROM execution.dead_letter").await, 1);
}
