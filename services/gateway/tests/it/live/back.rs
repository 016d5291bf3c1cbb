//! Who comes back and lacks nothing is told so at once: `live` waits for no ping and for no push.

use std::time::Duration;

use mesh_types::event::Fact;
use mesh_types::{DeadLetterId, Id};
use serde_json::json;
use tokio::task::JoinSet;

use super::client::Client;
use super::{Stage, id_of, ours};

/// Each second another of so many connections is pinged, which wakes it.
const PING_SECONDS: usize = 20;
/// Less than half of them are pinged within this time.
const PATIENCE: Duration = Duration::from_secs(8);

/// How many of as many connections as there are turns at a ping are told that they are live.
async fn live_of(stage: &Stage, topics: &'static [&'static str], after: &str) -> usize {
    let mut coming = JoinSet::new();
    for _ in 0..PING_SECONDS {
        let (address, after) = (stage.edge.address, after.to_owned());
        coming.spawn(async move {
            let mut client = Client::subscribed(address, topics, Some(&after)).await;
            let said = client.step_within(PATIENCE).await;
            said.is_some_and(|message| message["live"] == true)
        });
    }
    coming.join_all().await.into_iter().filter(|is_live| *is_live).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lacks_nothing_is_live_at_once_whatever_is_in_the_log() {
    let stage = Stage::start().await;
    let (mut first, _) = Client::caught_up(stage.edge.address, &["agents"], None).await;
    let start = first.cursor.clone().unwrap();
    stage.ground.agent_created(&ours(), "clara").await;
    first.take(1).await;
    // All that is in the log was told, or is of no topic of theirs.
    let end = first.cursor.clone().unwrap();
    assert_eq!(live_of(&stage, &["agents"], &end).await, PING_SECONDS);
    assert_eq!(live_of(&stage, &["channels"], &start).await, PING_SECONDS);
}

#[tokio::test]
async fn a_dead_letter_that_was_settled_is_told_to_who_lists_them() {
    let stage = Stage::start().await;
    let (mut client, _) = Client::caught_up(stage.edge.address, &["dead-letters"], None).await;
    let start = client.cursor.clone().unwrap();
    let dead_letter = DeadLetterId::from_u128(7);
    let fact = Fact::DeadLetterDiscarded { dead_letter };
    let event = stage.ground.event(&ours(), "user:ann", fact).await.to_string();
    let told = client.next().await;
    assert_eq!(
        (&told["topic"], &told["event"], &told["data"]["dead_letter"]),
        (
            &json!("dead-letters"),
            &json!("dead-letter.discarded"),
            &json!(dead_letter)
        )
    );
    assert_eq!(id_of(&told), event);
    // Also to who was away meanwhile, from the log and from EVENTS.
    let (_, told) = Client::caught_up(stage.edge.address, &["dead-letters"], Some(&start)).await;
    assert_eq!(told.iter().map(id_of).collect::<Vec<_>>(), std::slice::from_ref(&event));
    let other = super::cut::Another::start(&stage.edge.bus, gateway::Config::default()).await;
    let (_, told) = Client::caught_up(other.address, &["dead-letters"], Some(&start)).await;
    assert_eq!(told.iter().map(id_of).collect::<Vec<_>>(), [event]);
    other.stop().await;
}
