//! Server-sent events of one invocation: history, then live; resumed anywhere; holes filled from the feed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventsource_stream::{Event, Eventsource};
use futures::{Stream, StreamExt};
use mesh_api::journal::*;
use mesh_types::{Subject, Tenant};
use serde_json::{Value, json};

use crate::facts::journal;
use crate::made::the_invocation;
use crate::support::{Edge, problem};

const ALL: [&str; 7] = [
    "invocation.queued",
    "invocation.running",
    "token",
    "step.recorded",
    "token",
    "step.recorded",
    "invocation.completed",
];

fn path() -> String {
    format!("/api/v1/invocations/{}/events", the_invocation())
}

impl Edge {
    pub(crate) fn commit(&self, records: &[Record]) {
        self.world.journal.lock().unwrap().extend_from_slice(records);
    }

    /// What the relay publishes; it may lose and repeat.
    pub(crate) async fn relay(&self, records: &[Record]) {
        let (tenant, invocation) = (Tenant::default(), the_invocation());
        let page = JournalPage {
            tenant: tenant.clone(),
            invocation,
            records: records.to_vec(),
            more: false,
        };
        let subject = Subject::Journal { tenant, invocation };
        self.bus
            .publish(&subject, serde_json::to_vec(&page).unwrap().into())
            .await
            .unwrap();
        self.bus.flush().await.unwrap();
    }

    pub(crate) async fn token(&self, step: u32, attempt: u32, offset: u64, text: &str) {
        let chunk = TokenChunk {
            step,
            epoch: 1,
            attempt,
            block: 0,
            offset,
            text: text.into(),
        };
        self.chunk(&chunk).await;
    }

    pub(crate) async fn chunk(&self, chunk: &TokenChunk) {
        let subject = Subject::Tokens {
            tenant: Tenant::default(),
            invocation: the_invocation(),
        };
        self.bus
            .publish(&subject, Bytes::from(serde_json::to_vec(chunk).unwrap()))
            .await
            .unwrap();
        self.bus.flush().await.unwrap();
    }

    async fn tokens_are_stored(&self, count: usize) {
        let subject = Subject::Tokens {
            tenant: Tenant::default(),
            invocation: the_invocation(),
        };
        let stored = || async { self.bus.read_back(&subject, 100).await.unwrap().len() == count };
        mesh_testkit::wait_until(Duration::from_secs(30), stored).await;
    }

    pub(crate) async fn follow(&self, last: Option<&str>) -> impl Stream<Item = Event> + Unpin + use<> {
        let mut request = self.get(&path());
        if let Some(id) = last {
            request = request.header("last-event-id", id.to_owned());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(
            response.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/event-stream")
        );
        Box::pin(response.bytes_stream().eventsource().map(|event| event.unwrap()))
    }
}

/// The next events, waiting for them.
pub(crate) async fn take(stream: &mut (impl Stream<Item = Event> + Unpin), count: usize) -> Vec<Event> {
    let taken = stream.take(count).collect::<Vec<_>>();
    let events = tokio::time::timeout(Duration::from_secs(30), taken)
        .await
        .expect("the events come");
    assert_eq!(events.len(), count, "{events:?}");
    events
}

/// All that is left, to the end that the server makes.
async fn rest(stream: impl Stream<Item = Event> + Unpin) -> Vec<Event> {
    tokio::time::timeout(Duration::from_secs(30), stream.collect())
        .await
        .expect("the stream ends")
}

pub(crate) fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.event.as_str()).collect()
}

pub(crate) fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

fn shown(events: &[Event]) -> String {
    let mut text = String::new();
    for event in events {
        match event.event.as_str() {
            "token" => text.push_str(data(event)["text"].as_str().unwrap()),
            "reset" => text.clear(),
            _ => {}
        }
    }
    text
}

#[tokio::test]
async fn an_ended_invocation_is_told_and_the_stream_closes() {
    let edge = Edge::start().await;
    edge.commit(&journal());
    let events = rest(edge.follow(None).await).await;
    assert_eq!(names(&events), ALL);
    assert_eq!(data(&events[3])["input"], json!({"asked": 1}));
    assert_eq!(data(&events[6])["output"], json!({"text": "bye"}));
    assert_eq!(
        events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(),
        ["1", "2", "3.1.1.1.0.7", "4", "5.2.1.1.0.5", "6", "7"]
    );
}

#[tokio::test]
async fn a_resume_at_any_event_loses_nothing_and_repeats_nothing() {
    let edge = Edge::start().await;
    edge.commit(&journal());
    let all = rest(edge.follow(None).await).await;
    for cut in 1..all.len() {
        let resumed = rest(edge.follow(Some(&all[cut - 1].id)).await).await;
        assert_eq!(resumed, all[cut..], "after {}", all[cut - 1].id);
    }
    let over = edge.get(&path()).header("last-event-id", "7").send().await.unwrap();
    assert_eq!(over.status(), 204, "a browser stops asking");
    let by_query = edge
        .get(&format!("{}?after=6", path()))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(by_query.starts_with("id: 7\n"), "{by_query}");
}

#[tokio::test]
async fn live_records_are_told_once_whatever_is_repeated_or_lost() {
    let edge = Edge::start().await;
    let all = journal();
    edge.commit(&all[..2]);
    let mut stream = edge.follow(None).await;
    assert_eq!(names(&take(&mut stream, 2).await), ALL[..2]);

    edge.commit(&all[2..4]);
    edge.relay(&all[2..4]).await;
    edge.relay(&all[1..4]).await;
    assert_eq!(names(&take(&mut stream, 2).await), ["token", "step.recorded"]);

    // The message of 5 and 6 is lost: the one of 7 shows the hole, the feed fills it.
    edge.commit(&all[4..]);
    edge.relay(&all[6..]).await;
    let end = rest(stream).await;
    assert_eq!(names(&end), ["token", "step.recorded", "invocation.completed"]);
    assert_eq!(data(&end[1])["output"]["text"], "three");
}

#[tokio::test]
async fn a_journal_message_that_cannot_be_read_or_is_cut_short_leads_to_the_feed() {
    let edge = Edge::start().await;
    let all = journal();
    edge.commit(&all[..1]);
    let mut stream = edge.follow(None).await;
    take(&mut stream, 1).await;
    edge.commit(&all[1..]);
    let subject = Subject::Journal {
        tenant: Tenant::default(),
        invocation: the_invocation(),
    };
    edge.bus.publish(&subject, Bytes::from_static(b"{")).await.unwrap();
    assert_eq!(names(&rest(stream).await), ALL[1..]);
}

#[tokio::test]
async fn tokens_are_told_live_and_what_was_lost_comes_from_the_record() {
    let edge = Edge::start().await;
    let all = journal();
    edge.commit(&all[..3]);
    let mut stream = edge.follow(None).await;
    take(&mut stream, 2).await;
    edge.token(1, 1, 0, "wrong").await;
    edge.token(1, 2, 0, "").await;
    edge.token(1, 2, 0, "one ").await;
    let mut told = take(&mut stream, 3).await;
    assert_eq!(names(&told), ["token", "reset", "token"]);
    assert_eq!(data(&told[1]), json!({"step": 1, "attempt": 2}));

    // Cut off inside the step, which ends meanwhile with the second attempt's text.
    drop(stream);
    let mut second = all[3].clone();
    if let Fact::Done(done) = &mut second.fact {
        done.attempt = 2;
    }
    edge.commit(&[second]);
    edge.commit(&all[4..]);
    let id = told.last().unwrap().id.clone();
    assert_eq!(id, "3.1.1.2.0.4");
    told.extend(rest(edge.follow(Some(&id)).await).await);
    assert_eq!(shown(&told), "one twothree");
    let rest = [
        "token",
        "step.recorded",
        "token",
        "step.recorded",
        "invocation.completed",
    ];
    assert_eq!(names(&told[3..]), rest);
}

#[tokio::test]
async fn who_comes_late_or_was_away_reads_the_running_text_from_its_beginning() {
    let edge = Edge::start().await;
    edge.bus.apply_topology(&mesh_bus::topology::standard()).await.unwrap();
    edge.commit(&journal()[..3]);
    edge.token(1, 1, 0, "one ").await;
    edge.token(1, 1, 4, "two ").await;
    edge.tokens_are_stored(2).await;
    let mut stream = edge.follow(None).await;
    let mut told = take(&mut stream, 4).await;
    assert_eq!(names(&told)[2..], ["token", "token"]);
    drop(stream);
    edge.token(1, 1, 8, "three ").await;
    edge.tokens_are_stored(3).await;
    let mut stream = edge.follow(Some(&told[3].id)).await;
    told.extend(take(&mut stream, 1).await);
    edge.token(1, 1, 14, "four").await;
    told.extend(take(&mut stream, 1).await);
    assert_eq!(shown(&told), "one two three four");
}

#[tokio::test]
async fn a_token_waits_for_no_timer_and_no_other_answer() {
    let edge = Edge::start().await;
    edge.commit(&journal()[..3]);
    let mut stream = edge.follow(None).await;
    take(&mut stream, 2).await;
    let mut waits = Vec::new();
    for number in 0..41 {
        // A hole in the journal keeps the feed busy meanwhile.
        edge.relay(&journal()[5..6]).await;
        let published = Instant::now();
        edge.token(1, 1, number, "x").await;
        let token = take(&mut stream, 1).await;
        waits.push(published.elapsed());
        assert_eq!(names(&token), ["token"]);
    }
    waits.sort();
    assert!(
        waits[20] < Duration::from_millis(50),
        "half of them took longer than {:?}",
        waits[20]
    );
}

#[tokio::test]
async fn a_reconnect_reads_the_feed_again() {
    let edge = Edge::start().await;
    let all = journal();
    edge.commit(&all[..2]);
    let mut stream = edge.follow(None).await;
    take(&mut stream, 2).await;
    let reads = edge.world.feed_reads.load(Ordering::SeqCst);
    // Published by nobody: only the bell of the reconnect leads to it.
    edge.commit(&all[2..]);
    edge.restart_nats().await;
    assert_eq!(names(&rest(stream).await), ALL[2..]);
    assert!(edge.world.feed_reads.load(Ordering::SeqCst) > reads);
}

#[tokio::test]
async fn strangers_and_impossible_cursors_are_refused_before_the_stream() {
    let edge = Edge::start().await;
    edge.commit(&journal()[..2]);
    let unknown = edge
        .get("/api/v1/invocations/inv_01ARZ3NDEKTSV4RRFFQ69G5FAV/events")
        .send()
        .await
        .unwrap();
    assert_eq!(problem(unknown).await["type"], "execution/invocation-not-found");
    let ahead = edge.get(&path()).header("last-event-id", "3").send().await.unwrap();
    let ahead = problem(ahead).await;
    assert_eq!(
        (ahead["status"].as_u64(), ahead["field"].as_str()),
        (Some(400), Some("Last-Event-ID"))
    );
}

#[tokio::test]
async fn one_stream_over_the_limit_is_busy_until_another_ends() {
    let edge = Edge::start_with(gateway::Config {
        streams_max: 1,
        ..gateway::Config::default()
    })
    .await;
    edge.commit(&journal()[..2]);
    let first = edge.follow(None).await;
    let refused = edge.get(&path()).send().await.unwrap();
    assert_eq!(problem(refused).await["type"], "mesh/busy");
    drop(first);
    let taken = || async { edge.get(&path()).send().await.unwrap().status() == 200 };
    mesh_testkit::wait_until(Duration::from_secs(30), taken).await;
}

#[tokio::test]
async fn a_shutdown_ends_the_streams() {
    let mut edge = Edge::start().await;
    edge.commit(&journal()[..2]);
    let mut stream = edge.follow(None).await;
    take(&mut stream, 2).await;
    edge.context.shutdown.cancel();
    assert_eq!(names(&rest(stream).await), Vec::<&str>::new());
    let served = tokio::time::timeout(Duration::from_secs(30), &mut edge.served).await;
    served
        .expect("an open stream does not hold the shutdown up")
        .unwrap()
        .unwrap();
}
