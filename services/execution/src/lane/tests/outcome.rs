//! A connection that is cut while a batch commits: the outcome is found out, both ways, and after a takeover.

use serde_json::json;

use super::harness::{Harness, database, done, meta};
use super::proxy::{Cut, Proxy};
use crate::lane::command::AppendAnswer;

async fn append_through_a_cut(cut: Cut) {
    let database = database().await;
    let proxy = Proxy::before(database.url()).await;
    let mut owner = Harness::new(&proxy.url, "one", &[4]).await;
    let invocation = owner.open(meta(1, 4)).await;
    let appended = owner.append(invocation.id, 1, 2, vec![done(1, json!("once"))]).await;
    proxy.cut(cut);
    owner.turn().await;
    assert!(proxy.is_cut(), "the cut happened");
    assert_eq!(appended.await.unwrap().map(|done| done.seq), Ok(3));
    assert_eq!(owner.records().await, 3, "accepted, claimed, done: each once");
    owner.assert_memory_is_committed_state(4).await;
    // And the lane goes on.
    let appended = owner.append(invocation.id, 1, 3, vec![done(2, json!("next"))]).await;
    owner.turn().await;
    assert_eq!(appended.await.unwrap().map(|done| done.seq), Ok(4));
    owner.assert_memory_is_committed_state(4).await;
}

#[tokio::test]
async fn a_batch_that_never_arrived_is_sent_again() {
    append_through_a_cut(Cut::BeforeRequest).await;
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_found_committed() {
    append_through_a_cut(Cut::BeforeAnswer).await;
}

#[tokio::test]
async fn a_shard_taken_while_the_outcome_was_unknown_is_lost() {
    let database = database().await;
    let proxy = Proxy::before(database.url()).await;
    let mut owner = Harness::new(&proxy.url, "one", &[4]).await;
    let invocation = owner.open(meta(1, 4)).await;
    let mut other = Harness::new(database.url(), "two", &[]).await;
    let appended = owner.append(invocation.id, 1, 2, vec![done(1, json!("old"))]).await;
    // Cut before it arrives, and somebody takes the shard before it is sent again.
    other.take_over(4).await;
    proxy.cut(Cut::BeforeRequest);
    owner.turn().await;
    assert_eq!(appended.await.unwrap(), Err(AppendAnswer::Stale));
    assert_eq!(*owner.lost.lock().unwrap(), [4]);
    assert_eq!(other.records().await, 2);
}
