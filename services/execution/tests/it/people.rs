//! What waits for people: approvals, ambiguous steps, dead letters that are taken up again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh_api::execution::{DeadLetter, DeadLetterList, DeadLetterListRequest, Invocation, State};
use mesh_api::steering::{
    Approval, ApprovalDecide, ApprovalList, ApprovalListRequest, DeadLetterRequeue, DecideRequest, Decision,
    RequeueRequest, Requeued,
};
use mesh_api::{Page, PageQuery};
use mesh_testkit::wait_until;
use mesh_types::{Code, Problem};
use serde_json::json;

use crate::forks::{Ledger, caller};
use crate::mesh::{Mesh, SOON, request};

impl Mesh {
    async fn approvals(&self, limit: u32, after: Option<String>) -> Page<Approval> {
        let page = PageQuery {
            limit: Some(limit),
            after,
        };
        self.ask::<ApprovalList>(ApprovalListRequest { page }).await.unwrap()
    }

    async fn asking(&self, count: usize) -> Vec<Approval> {
        wait_until(SOON, || async { self.approvals(50, None).await.items.len() == count }).await;
        self.approvals(50, None).await.items
    }

    async fn decide(&self, approval: &Approval, decision: Decision) -> Result<Invocation, Problem> {
        self.ask::<ApprovalDecide>(DecideRequest {
            invocation: approval.invocation,
            step: approval.step,
            decision,
            note: None,
            output: None,
        })
        .await
    }

    async fn dead_letter(&self) -> DeadLetter {
        let list = || self.ask::<DeadLetterList>(DeadLetterListRequest::default());
        wait_until(SOON, || async { list().await.is_ok_and(|page| page.items.len() == 1) }).await;
        list().await.unwrap().items.remove(0)
    }

    async fn requeue(&self, letter: &DeadLetter) -> Result<Requeued, Problem> {
        self.ask::<DeadLetterRequeue>(RequeueRequest { id: letter.id }).await
    }
}

#[tokio::test]
async fn calls_that_wait_for_a_person_are_listed_with_their_arguments_until_they_are_decided() {
    let (mesh, _process) = Mesh::start().await;
    let ledger = Ledger::new();
    let mut tool = ledger.tool();
    tool["approval"] = json!("always");
    mesh.world.publish("default", "careful", &caller(1, &tool));
    // Waits too, but for nobody.
    mesh.world
        .publish("default", "sleeper", &caller(1, &json!("wait_signal")));
    let mut ids = Vec::new();
    for n in 0..3 {
        let body = request(json!({"payload": {"text": format!("{n}")}}));
        ids.push(mesh.accept("careful", body.clone(), Duration::ZERO).await.unwrap().id);
        mesh.accept("sleeper", body, Duration::ZERO).await.unwrap();
    }
    let all = mesh.asking(3).await;
    ids.reverse();
    assert_eq!(
        all.iter().map(|one| one.invocation).collect::<Vec<_>>(),
        ids,
        "newest first"
    );
    let first = &all[0];
    assert_eq!(
        (first.kind.as_str(), first.name.as_str(), first.agent.as_str()),
        ("approval", "pay", "careful")
    );
    assert_eq!(
        (&first.input, first.id.as_str()),
        (&json!({"n": 0}), format!("{}-2", ids[0]).as_str())
    );
    let page = mesh.approvals(2, None).await;
    let rest = mesh.approvals(2, page.next.clone()).await;
    assert_eq!(
        (page.items.as_slice(), rest.items.as_slice(), rest.next),
        (&all[..2], &all[2..], None)
    );
    let nonsense = PageQuery {
        limit: None,
        after: Some("inv_x-1".into()),
    };
    let problem = mesh
        .ask::<ApprovalList>(ApprovalListRequest { page: nonsense })
        .await
        .unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("after"));
    let foreign = mesh
        .ask_as::<ApprovalList>("other", ApprovalListRequest::default())
        .await;
    assert!(foreign.unwrap().items.is_empty());
    mesh.decide(&all[0], Decision::Approve).await.unwrap();
    mesh.decide(&all[1], Decision::Deny).await.unwrap();
    assert_eq!(mesh.asking(1).await, all[2..]);
    for id in &ids[..2] {
        assert_eq!(mesh.ended(*id).await.state, State::Completed);
    }
    assert_eq!(ledger.lines(), 1, "only what was allowed");
}

#[tokio::test]
async fn a_step_of_which_nobody_knows_is_listed_with_what_it_was_to_do() {
    let (mesh, one) = Mesh::start().await;
    let ledger = Ledger::new();
    let mut tool = ledger.tool();
    let script = tool["script"]["command"][2].as_str().unwrap().to_owned();
    tool["script"]["command"][2] = json!(format!("{script}; exec sleep 5"));
    mesh.world.publish("default", "payer", &caller(1, &tool));
    let body = request(json!({"payload": {"text": "pay"}}));
    let id = mesh.accept("payer", body, Duration::ZERO).await.unwrap().id;
    wait_until(SOON, || async { ledger.lines() == 1 }).await;
    one.kill();
    let _next = mesh.process("two").await;
    mesh.owned_by(&[("two", 16)]).await;
    let asked = mesh.asking(1).await.remove(0);
    assert_eq!(
        (asked.invocation, asked.step, asked.kind.as_str()),
        (id, 2, "ambiguous")
    );
    assert_eq!((asked.name.as_str(), &asked.input), ("pay", &json!({"n": 0})));
    let happened = DecideRequest {
        invocation: id,
        step: 2,
        decision: Decision::Approve,
        note: None,
        output: Some(json!({"paid": true})),
    };
    mesh.ask::<ApprovalDecide>(happened).await.unwrap();
    assert_eq!(mesh.ended(id).await.state, State::Completed);
    assert_eq!(ledger.lines(), 1);
    mesh.asking(0).await;
}

#[tokio::test]
async fn a_dead_invocation_goes_on_as_a_fork_from_the_step_that_failed() {
    let (mesh, _process) = Mesh::start().await;
    let ledger = Ledger::new();
    let mut spec = caller(1, &ledger.tool());
    spec["retry"] = json!({"attempts": 1, "backoff": "none"});
    mesh.world.publish("default", "payer", &spec);
    mesh.world.is_failing.store(true, Ordering::SeqCst);
    let body = request(json!({"payload": {"text": "pay"}}));
    let dead = mesh.accept("payer", body, SOON).await.unwrap();
    assert_eq!(dead.state, State::Dead, "{dead:?}");
    let letter = mesh.dead_letter().await;
    let foreign = mesh.ask_as::<DeadLetterRequeue>("other", RequeueRequest { id: letter.id });
    assert!(foreign.await.unwrap_err().is(Code::DeadLetterNotFound));
    mesh.world.is_failing.store(false, Ordering::SeqCst);
    let (one, two) = tokio::join!(mesh.requeue(&letter), mesh.requeue(&letter));
    let (requeued, refused) = match (one, two) {
        (Ok(requeued), Err(refused)) | (Err(refused), Ok(requeued)) => (requeued, refused),
        other => panic!("one of two: {other:?}"),
    };
    let fork = requeued.invocation.id;
    assert!(
        refused.is(Code::DeadLetterSettled) && refused.detail.contains(&fork.to_string()),
        "{refused:?}"
    );
    assert_eq!(requeued.dead_letter.settled.as_deref(), Some("requeued"));
    let ended = mesh.ended(fork).await;
    let from = ended.forked_from.as_ref().unwrap();
    assert_eq!(
        (ended.state, from.invocation, from.step),
        (State::Completed, dead.id, 3)
    );
    assert_eq!(ledger.lines(), 1);
    mesh.world.assert_each_completion_ran_once(3);
    let later = mesh.requeue(&letter).await.unwrap_err();
    assert!(later.detail.contains(&fork.to_string()), "{later:?}");
    assert_eq!(mesh.check().await, 2);
}

#[tokio::test]
async fn a_message_is_submitted_again_once_it_can_be_accepted() {
    let (mesh, _process) = Mesh::start().await;
    mesh.publish("mesh.invoke.default.stranger", r#"{"payload": {"n": 7}}"#)
        .await;
    let letter = mesh.dead_letter().await;
    let problem = mesh.requeue(&letter).await.unwrap_err();
    assert!(
        problem.is(Code::AgentNotFound) && problem.detail.contains("still"),
        "{problem:?}"
    );
    assert_eq!(mesh.dead_letter().await.settled, None, "it stays open");
    mesh.world.publish("default", "stranger", &json!({"runtime": "noop"}));
    let requeued = mesh.requeue(&letter).await.unwrap();
    assert_eq!(requeued.dead_letter.settled.as_deref(), Some("requeued"));
    let ended = mesh.ended(requeued.invocation.id).await;
    assert_eq!((ended.state, &ended.payload), (State::Completed, &json!({"n": 7})));
    let again = mesh.requeue(&letter).await.unwrap_err();
    assert!(
        again.is(Code::DeadLetterSettled) && again.detail.contains(&ended.id.to_string()),
        "{again:?}"
    );
    mesh.check().await;
}
