//! Waits, signals, pauses, late results, hand-overs, children and node claims, on a real Postgres.

use std::collections::HashMap;

use mesh_api::execution::State;
use mesh_api::journal::{About, Begun, Done, Effect, Fact, Outcome, StepKind, Usage, WaitItem, WaitOn};
use mesh_api::steering::Decision as Word;
use mesh_types::{Code, Id, InvocationId, Tenant, Timestamp};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::harness::{Harness, completed, database, meta};
use crate::core::append::AppendThen;
use crate::core::{Holder, Meta};
use crate::lane::command::{Action, Alive, AppendAnswer, Claim, Command, Next};

fn signal(name: &str) -> AppendThen {
    let name = name.into();
    AppendThen::Wait(vec![WaitItem {
        step: 1,
        on: WaitOn::Signal { name, until: None },
    }])
}

fn told(name: &str, key: &str) -> Action {
    Action::Signal {
        key: Some(key.into()),
        about: About::Signal {
            name: name.into(),
            value: json!(1),
        },
    }
}

fn begun(step: u32, kind: StepKind, effect: Effect, input: Value) -> Fact {
    Fact::Begun(Begun {
        step,
        kind,
        name: "t".into(),
        effect,
        input,
    })
}

fn done(step: u32) -> Fact {
    Fact::Done(Box::new(Done {
        step,
        kind: StepKind::Tool,
        name: "t".into(),
        effect: Effect::AtMostOnce,
        input: None,
        output: Some(json!("late")),
        error: None,
        usage: Usage::default(),
        attempt: 1,
        started_at: Timestamp::EPOCH,
        ended_at: Timestamp::EPOCH,
    }))
}

#[tokio::test]
async fn a_wait_frees_its_slot_until_its_signal_comes() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let id = owner.open(meta(1, 3)).await.id;
    let waiting = owner.append_then((id, 1, 2), vec![], signal("go")).await.unwrap();
    assert_eq!((waiting.seq, waiting.next), (3, Next::Waiting));
    assert_eq!(owner.lane.context.slots.in_use(), 0, "a wait holds no slot");
    let other = owner.steer(id, 3, told("other", "a")).await.unwrap().unwrap();
    assert_eq!(other.state, State::Waiting);
    owner.turn().await;
    assert_eq!(owner.started().len(), 1, "another name does not wake it");
    owner.steer(id, 3, told("go", "b")).await.unwrap();
    owner.steer(id, 3, told("go", "b")).await.unwrap();
    owner.turn().await;
    assert_eq!(owner.started().len(), 2);
    let signals = "SELECT count(*) FROM execution.record WHERE kind = 'signalled'";
    assert_eq!(owner.count(signals).await, 2, "a key counts once");
    owner.assert_memory_is_committed_state(3).await;
    let losses = "SELECT losses::int8 FROM execution.open";
    assert_eq!(owner.count(losses).await, 0, "a wait is no loss");
}

#[tokio::test]
async fn what_came_before_the_wait_is_told_instead_of_waiting() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let id = owner.open(meta(1, 3)).await.id;
    owner.steer(id, 3, told("go", "a")).await.unwrap();
    let answer = owner.append_then((id, 1, 2), vec![], signal("go")).await.unwrap();
    assert_eq!((answer.next, answer.news.len()), (Next::GoOn, 1));
    let waiting = owner.append_then((id, 1, answer.seq), vec![], signal("more")).await;
    assert_eq!(
        waiting.unwrap().next,
        Next::Waiting,
        "what it has seen keeps it no longer"
    );
    let mut next = Harness::new(database.url(), "two", &[3]).await;
    next.turn().await;
    assert_eq!(next.started().len(), 0, "nothing came since");
    next.steer(id, 3, told("more", "a")).await.unwrap();
    assert_eq!(
        next.count("SELECT max(seq)::int8 FROM execution.record").await,
        4,
        "its key was used"
    );
    next.steer(id, 3, told("more", "b")).await.unwrap();
    let mut third = Harness::new(database.url(), "three", &[3]).await;
    third.turn().await;
    assert_eq!(third.started(), [id], "a takeover does not forget what woke it");
}

#[tokio::test]
async fn a_pause_stops_a_running_one_at_its_next_append() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let id = owner.open(meta(1, 3)).await.id;
    let paused = owner
        .steer(id, 3, Action::Pause { reason: None })
        .await
        .unwrap()
        .unwrap();
    assert!(paused.paused && paused.state == State::Running);
    let next = begun(2, StepKind::Tool, Effect::AtMostOnce, json!({}));
    let facts = vec![done(1), next];
    let stopped = owner
        .append_then((id, 1, 2), facts.clone(), AppendThen::GoOn)
        .await
        .unwrap();
    assert_eq!(stopped.next, Next::Stop);
    let begun = "SELECT count(*) FROM execution.record WHERE kind = 'begun'";
    assert_eq!(owner.count(begun).await, 0, "what is not to start has not begun");
    let again = owner.append_then((id, 1, 2), facts, AppendThen::GoOn).await.unwrap();
    assert_eq!(again.next, Next::Stop, "a repeat gets the same answer");
    owner.turn().await;
    assert_eq!(owner.started().len(), 1, "paused work is not claimed");
    owner.assert_memory_is_committed_state(3).await;
    owner.steer(id, 3, Action::Resume { reason: None }).await.unwrap();
    owner.turn().await;
    assert_eq!(owner.started().len(), 2);
    owner.assert_memory_is_committed_state(3).await;
}

#[tokio::test]
async fn a_late_result_settles_an_ambiguous_step_once() {
    let database = database().await;
    let mut first = Harness::new(database.url(), "one", &[3]).await;
    let id = first.open(meta(1, 3)).await.id;
    let begin = begun(1, StepKind::Tool, Effect::AtMostOnce, json!({}));
    first
        .append_then((id, 1, 2), vec![begin], AppendThen::GoOn)
        .await
        .unwrap();
    let mut next = Harness::new(database.url(), "two", &[3]).await;
    next.turn().await;
    let ambiguous = AppendThen::Wait(vec![WaitItem {
        step: 1,
        on: WaitOn::Ambiguous { name: "t".into() },
    }]);
    let waiting = next.append_then((id, 2, 4), vec![], ambiguous).await.unwrap();
    assert_eq!(waiting.next, Next::Waiting);
    for _ in 0..2 {
        let late = next.append_then((id, 1, 3), vec![done(1)], AppendThen::GoOn).await;
        assert_eq!(late, Err(AppendAnswer::Stale), "its worker stops all the same");
    }
    let settled = "SELECT count(*) FROM execution.record WHERE kind = 'signalled'";
    assert_eq!(next.count(settled).await, 1);
    let decided = Action::Decide {
        step: 1,
        decision: Word::Approve,
        note: None,
        output: None,
    };
    let problem = next.steer(id, 3, decided).await.unwrap_err();
    assert!(problem.is(Code::ApprovalNotFound), "it is settled: {problem}");
    next.turn().await;
    assert_eq!(next.started().len(), 2);
}

#[tokio::test]
async fn a_released_shard_takes_its_work_along_without_a_loss() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let id = owner.open(meta(1, 3)).await.id;
    let (settled, batch) = oneshot::channel();
    owner.lane.take(Command::Release { shard: 3, settled }).await;
    assert!(batch.await.unwrap().is_some());
    assert!(owner.started.lock().unwrap()[0].cancel.is_cancelled());
    let mut next = Harness::new(database.url(), "two", &[3]).await;
    next.turn().await;
    assert_eq!(next.started(), [id]);
    assert_eq!(next.count("SELECT losses::int8 FROM execution.open").await, 0);
}

#[tokio::test]
async fn a_child_is_asked_for_and_ends_with_its_parent() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let id = owner.open(meta(1, 3)).await.id;
    let child = meta(77, 0).id;
    let begin = begun(
        1,
        StepKind::Child,
        Effect::Idempotent,
        json!({"invocation": child, "agent": "helper"}),
    );
    owner
        .append_then((id, 1, 2), vec![begin], AppendThen::GoOn)
        .await
        .unwrap();
    assert_eq!(
        owner
            .count("SELECT count(*) FROM execution.mail WHERE kind = 'child'")
            .await,
        1
    );
    owner
        .steer(
            id,
            3,
            Action::Cancel {
                reason: "operator_canceled".into(),
            },
        )
        .await
        .unwrap();
    assert_eq!(
        owner
            .count("SELECT count(*) FROM execution.mail WHERE kind = 'cancel'")
            .await,
        1
    );
    let in_order = "SELECT count(*) FROM execution.mail a, execution.mail b
        WHERE a.kind = 'child' AND b.kind = 'cancel' AND a.id < b.id";
    assert_eq!(owner.count(in_order).await, 1, "it is made before it is ended");
}

#[tokio::test]
async fn the_end_of_a_child_is_a_letter_to_its_parent() {
    use crate::core::{Links, Parent};
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3, 4]).await;
    let parent = owner.open(meta(1, 3)).await.id;
    let child = Meta {
        links: Some(Box::new(Links {
            parent: Some(Parent {
                invocation: parent,
                step: 1,
                shard: 3,
            }),
            depth: 1,
            ..Links::default()
        })),
        ..meta(2, 4)
    };
    let child = owner.open(child).await.id;
    let ended = owner.append(child, 1, 2, vec![completed()]).await;
    owner.turn().await;
    ended.await.unwrap().unwrap();
    let letters = crate::store::mail::waiting(&owner.pool, &[3], 10).await.unwrap();
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!((letter.sender, letter.recipient), (child, parent));
    let crate::core::mail::Letter::Result(about) = &letter.body else {
        panic!("a result")
    };
    assert!(matches!(
        **about,
        About::Child {
            step: 1,
            outcome: Outcome::Completed,
            ..
        }
    ));
}

fn node(incarnation: u64) -> Holder {
    Holder {
        node: "n1".into(),
        incarnation,
    }
}

async fn claim(owner: &mut Harness, holder: Holder, request_id: &str) -> Vec<(InvocationId, u32)> {
    let (answer, answered) = oneshot::channel();
    let claim = Claim {
        holder,
        request_id: request_id.into(),
        free: 10,
        assigned: HashMap::from([((Tenant::default(), "a".parse().unwrap()), 10)]),
        running: HashMap::new(),
        others: None,
        answer,
    };
    owner.lane.take(Command::Claim(claim)).await;
    owner.turn().await;
    let grants = answered.await.unwrap();
    grants.into_iter().map(|grant| (grant.meta.id, grant.epoch)).collect()
}

async fn alive(owner: &mut Harness, held: &[(InvocationId, u32)], asked: &[InvocationId]) -> Vec<InvocationId> {
    let (answer, answered) = oneshot::channel();
    let alive = Alive {
        holder: node(1),
        held: held.iter().copied().collect(),
        asked: asked.iter().copied().collect(),
        answer,
    };
    owner.lane.take(Command::Alive(alive)).await;
    answered.await.unwrap()
}

#[tokio::test]
async fn a_node_claims_what_is_placed_and_a_lost_grant_comes_back() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[3]).await;
    let mut placed = meta(1, 3);
    placed.input.placed = true;
    let id = owner.open(placed).await.id;
    owner.turn().await;
    assert!(owner.started().is_empty(), "never here");
    let granted = claim(&mut owner, node(1), "r1").await;
    assert_eq!(granted, [(id, 1)]);
    assert_eq!(
        claim(&mut owner, node(1), "r1").await,
        granted,
        "the same request, the same grants"
    );
    assert_eq!(claim(&mut owner, node(1), "r2").await, []);
    owner.assert_memory_is_committed_state(3).await;
    let asks = (id, 1, 2);
    let stranger = owner.append_as(Some(node(2)), asks, vec![], AppendThen::GoOn).await;
    assert_eq!(stranger, Err(AppendAnswer::Stale));
    let fine = owner.append_as(Some(node(1)), asks, vec![], AppendThen::GoOn).await;
    assert_eq!(fine.unwrap().next, Next::GoOn);
    assert_eq!(alive(&mut owner, &[(id, 1)], &[id]).await, []);
    for _ in 0..3 {
        let elsewhere = alive(&mut owner, &[(id, 1), (InvocationId::from_u128(9), 1)], &[]).await;
        assert_eq!(elsewhere, [], "the asker takes somebody else for its owner");
    }
    assert!(!owner.lane.memory.open[&id].is_runnable(Timestamp::EPOCH), "it is held");
    assert_eq!(alive(&mut owner, &[], &[]).await, [], "it lost the grant");
    assert!(owner.lane.memory.next_timer().is_some(), "it comes back after a pause");
    assert_eq!(
        claim(&mut owner, node(0), "r3").await,
        [],
        "an older start of the node is dead"
    );
}
