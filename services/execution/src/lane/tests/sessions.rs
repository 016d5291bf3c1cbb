//! Sessions: order of acceptance, one at a time, and the four policies, on a real Postgres.

use mesh_api::execution::State;
use mesh_types::Code;
use mesh_types::agent::SessionPolicy;
use serde_json::json;

use super::harness::{Harness, completed, database, meta};
use crate::core::Meta;
use crate::lane::command::Accepted;

fn of_session(n: u128) -> Meta {
    Meta {
        session: Some("s".into()),
        ..meta(n, 2)
    }
}

async fn end(owner: &mut Harness, n: u128, epoch: u32, seq: u32) {
    let ended = owner.append(meta(n, 2).id, epoch, seq, vec![completed()]).await;
    owner.turn().await;
    ended.await.unwrap().unwrap();
    // The next of the session is claimed by the turn after the end.
    owner.turn().await;
}

#[tokio::test]
async fn one_at_a_time_in_order_of_acceptance_also_after_a_takeover() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[2]).await;
    // Ids that sort against the order of acceptance.
    let mut answers = Vec::new();
    for n in [9, 3, 7, 1] {
        answers.push(owner.accept(of_session(n)).await);
    }
    for _ in 0..4 {
        owner.turn().await;
    }
    for answer in answers {
        assert!(matches!(answer.await.unwrap().unwrap(), Accepted::New(_)));
    }
    let id = |n| meta(n, 2).id;
    assert_eq!(owner.started(), [id(9)]);
    owner.assert_memory_is_committed_state(2).await;
    end(&mut owner, 9, 1, 2).await;
    assert_eq!(owner.started(), [id(9), id(3)]);
    let mut next = Harness::new(database.url(), "two", &[2]).await;
    next.turn().await;
    assert_eq!(next.started(), [id(3)], "the lost one again, and nobody passes it");
    end(&mut next, 3, 2, 3).await;
    end(&mut next, 7, 1, 2).await;
    end(&mut next, 1, 1, 2).await;
    assert_eq!(next.started(), [id(3), id(7), id(1)]);
    assert!(next.lane.memory.sessions.is_empty());
}

#[tokio::test]
async fn a_busy_session_rejects() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[2]).await;
    owner.open(of_session(1)).await;
    let second = owner.accept_of(of_session(2), SessionPolicy::Reject).await;
    owner.turn().await;
    let problem = second.await.unwrap().unwrap_err();
    assert!(problem.is(Code::SessionBusy), "{problem}");
    assert_eq!(problem.field.as_deref(), Some("session"));
    assert_eq!(owner.count("SELECT count(*) FROM execution.invocation").await, 1);
}

#[tokio::test]
async fn a_newcomer_interrupts() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[2]).await;
    owner.open(of_session(1)).await;
    let second = owner.accept_of(of_session(2), SessionPolicy::Interrupt).await;
    owner.turn().await;
    owner.turn().await;
    assert!(matches!(second.await.unwrap().unwrap(), Accepted::New(_)));
    assert_eq!(owner.started(), [meta(1, 2).id, meta(2, 2).id]);
    assert!(
        owner.started.lock().unwrap()[0].cancel.is_cancelled(),
        "its worker stops"
    );
    let interrupted = "SELECT count(*) FROM execution.ended WHERE outcome = 'cancelled' AND reason = 'interrupted'";
    assert_eq!(owner.count(interrupted).await, 1);
    owner.assert_memory_is_committed_state(2).await;
}

#[tokio::test]
async fn what_has_not_started_takes_later_messages_in() {
    let database = database().await;
    let mut owner = Harness::new(database.url(), "one", &[2]).await;
    owner.open(of_session(1)).await;
    let with_text = |n: u128, text: &str| {
        let mut meta = of_session(n);
        meta.input.payload = json!({"text": text}).into();
        meta
    };
    let metas = [with_text(2, "a"), with_text(3, "b"), with_text(4, "c")];
    let mut answers = Vec::new();
    for meta in metas {
        answers.push(owner.accept_of(meta, SessionPolicy::Merge).await);
    }
    for _ in 0..4 {
        owner.turn().await;
    }
    let mut states = Vec::new();
    for answer in answers {
        let Accepted::New(now) = answer.await.unwrap().unwrap() else {
            panic!("new")
        };
        states.push(now.state);
        if now.state == State::Completed {
            assert_eq!(now.output, Some(json!({"merged_into": meta(2, 2).id})));
        }
    }
    assert_eq!(states, [State::Queued, State::Completed, State::Completed]);
    end(&mut owner, 1, 1, 2).await;
    let started = owner.started.lock().unwrap();
    assert_eq!(started[1].meta.id, meta(2, 2).id);
    let merged = started[1].journal.iter().filter(|record| {
        matches!(&record.fact, mesh_api::journal::Fact::Signalled(told)
            if matches!(told.about, mesh_api::journal::About::Merged { .. }))
    });
    assert_eq!(merged.count(), 2, "its worker sees both messages");
}
