//! Clients that are cut off at random, a gateway that is killed again and again, and the real feed of `execution` below
//! them: each client has heard of every change of every invocation once, and of each invocation in order.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use mesh_types::{Id, InvocationId};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Http, Mesh, free_port, kill_9, send, unique, until};

const CUTS: usize = 1_000;
const CLIENTS: usize = 16;
/// A connection without anything to hear is cut after.
const SILENCE: Duration = Duration::from_millis(300);

/// What an invocation's change is: who, and its record.
type Change = (String, u64);

/// A small generator: tests are repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// What all clients share.
struct Course {
    tenant: String,
    /// The gateway that stays, and the one that is killed.
    addresses: [String; 2],
    /// The first cursor of all.
    start: String,
    cuts: AtomicUsize,
    is_over: AtomicBool,
    /// How many changes there are, once it is over.
    changes: AtomicUsize,
}

#[derive(Default)]
struct Heard {
    changes: Vec<Change>,
    cursor: Option<String>,
}

impl Heard {
    fn take(&mut self, message: &Value) {
        assert!(message["reset"].is_null(), "nothing expires here: {message}");
        if let Some(cursor) = message["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
        if message["topic"] == "invocations" {
            let (id, seq) = (message["data"]["id"].as_str(), message["data"]["seq"].as_u64());
            self.changes.push((id.unwrap().to_owned(), seq.unwrap()));
        }
    }
}

async fn by_socket(course: &Course, address: &str, heard: &mut Heard, messages: u64) {
    let url = format!("ws://{address}/api/v1/ws?tenant={}", course.tenant);
    let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else {
        return;
    };
    let after = heard.cursor.as_ref().unwrap_or(&course.start);
    let said = json!({"subscribe": ["invocations"], "after": after}).to_string();
    let _ = socket.send(Message::text(said)).await;
    let mut left = messages;
    while left > 0 {
        match tokio::time::timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(Message::Text(text)))) => {
                heard.take(&serde_json::from_str(text.as_str()).unwrap());
                left -= 1;
            }
            Ok(Some(Ok(_))) => {}
            _ => return,
        }
    }
}

async fn by_events(course: &Course, http: &Http, heard: &mut Heard, messages: u64) {
    let after = heard.cursor.as_ref().unwrap_or(&course.start);
    let request = http.request(Method::GET, "/api/v1/events?topics=invocations");
    let Ok(mut response) = request.header("last-event-id", after).send().await else {
        return;
    };
    if !response.status().is_success() {
        return;
    }
    let (mut text, mut left) = (String::new(), messages);
    while left > 0 {
        let Ok(Ok(Some(piece))) = tokio::time::timeout(SILENCE, response.chunk()).await else {
            return;
        };
        text.push_str(std::str::from_utf8(&piece).expect("events are whole"));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            if let Some(data) = data.filter(|_| left > 0) {
                heard.take(&serde_json::from_str(data).unwrap());
                left -= 1;
            }
            text = rest.to_owned();
        }
    }
}

async fn listen(course: Arc<Course>, seed: u64) -> Vec<Change> {
    let (mut dice, mut heard) = (Dice(seed), Heard::default());
    loop {
        let address = &course.addresses[usize::from(dice.roll(2) == 0)];
        let messages = match dice.roll(10) {
            0 => 300,
            1..=3 => dice.roll(30),
            _ => dice.roll(5),
        };
        if dice.roll(3) == 0 {
            let http = Http::new(format!("http://{address}")).tenant(&course.tenant);
            by_events(&course, &http, &mut heard, messages).await;
        } else {
            by_socket(&course, address, &mut heard, messages).await;
        }
        course.cuts.fetch_add(1, Ordering::Relaxed);
        if course.is_over.load(Ordering::Relaxed) && heard.changes.len() >= course.changes.load(Ordering::Relaxed) {
            // A repeat, if there is one, comes now.
            by_socket(&course, &course.addresses[0], &mut heard, 50).await;
            return heard.changes;
        }
    }
}

/// Another gateway on the same bus, killed again and again: what it lacks it reads from the feed. One in a while lives.
async fn kill_the_second(mesh: &Mesh, port: u16, course: &Course) {
    let (port, nats) = (port.to_string(), mesh.state().nats);
    let folder = tempfile::tempdir().unwrap();
    let mut running: Option<Child> = None;
    while course.cuts.load(Ordering::Relaxed) < CUTS {
        if let Some(mut child) = running.take() {
            kill_9(child.id());
            child.wait().unwrap();
        }
        let extra = [("MESH_HTTP_PORT", port.as_str()), ("MESH_NATS_URL", nats.as_str())];
        let arguments = ["serve", "gateway"];
        running = Some(mesh.launch.spawn(&arguments, &extra, &folder.path().join("second.log")));
        let http = Http::new(format!("http://127.0.0.1:{port}"));
        until(60, "the second gateway answers", || http.try_get("/livez")).await;
        let due = (course.cuts.load(Ordering::Relaxed) + CUTS / 6).min(CUTS);
        until(300, "clients are cut", || async {
            (course.cuts.load(Ordering::Relaxed) >= due).then_some(())
        })
        .await;
    }
    if let Some(mut child) = running {
        kill_9(child.id());
        child.wait().unwrap();
    }
}

async fn work(http: &Http, agent: &str, course: &Course) {
    let (mut dice, body) = (Dice(7), json!({"payload": {}}));
    while course.cuts.load(Ordering::Relaxed) < CUTS {
        let several = (0..=dice.roll(3)).map(|_| http.invoke(agent, "", &body));
        for accepted in futures::future::join_all(several).await {
            accepted.expect(202);
        }
        tokio::time::sleep(Duration::from_millis(dice.roll(80))).await;
    }
}

/// What was told, as the tables have it.
async fn committed(mesh: &Mesh, tenant: &str) -> BTreeSet<Change> {
    let rows: Vec<(String, i32)> = sqlx::query_as(
        "SELECT replace(r.invocation::text, '-', ''), r.seq
         FROM execution.record r JOIN execution.invocation i ON i.id = r.invocation
         WHERE i.tenant = $1 AND r.kind <> ALL (ARRAY['begun', 'done', 'cancel_requested'])",
    )
    .bind(tenant)
    .fetch_all(&mesh.database().await)
    .await
    .unwrap();
    let change = |(id, seq): (String, i32)| {
        let id = InvocationId::from_u128(u128::from_str_radix(&id, 16).unwrap());
        (id.to_string(), u64::try_from(seq).unwrap())
    };
    rows.into_iter().map(change).collect()
}

async fn first_cursor(http: &Http) -> String {
    let mut events = send_events(http).await;
    let first = events.chunk().await.unwrap().expect("an event");
    let text = String::from_utf8(first.to_vec()).unwrap();
    let id = text.lines().find_map(|line| line.strip_prefix("id: "));
    id.expect("the first event has a cursor").to_owned()
}

async fn send_events(http: &Http) -> reqwest::Response {
    let request = http.request(Method::GET, "/api/v1/events?topics=invocations");
    request.send().await.unwrap().error_for_status().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cuts_over_the_real_feed_lose_nothing_and_repeat_nothing() {
    let mesh = Mesh::up().await;
    let (tenant, agent) = (unique("cuts"), unique("nothing"));
    let http = mesh.http().tenant(&tenant);
    let declared = json!({"metadata": {"name": agent}, "spec": {"runtime": "noop"}});
    until(60, "the tenant takes an agent", || async {
        let made = http.post("/api/v1/agents", &declared).await;
        [201, 409].contains(&made.status).then_some(())
    })
    .await;
    let published = http.request(Method::POST, &format!("/api/v1/agents/{agent}/publish"));
    assert!(send(published).await.status < 300);
    let second = free_port();
    let course = Arc::new(Course {
        start: first_cursor(&http).await,
        addresses: [
            http.base().trim_start_matches("http://").to_owned(),
            format!("127.0.0.1:{second}"),
        ],
        tenant: tenant.clone(),
        cuts: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
        changes: AtomicUsize::new(0),
    });
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..CLIENTS as u64 {
        clients.spawn(listen(Arc::clone(&course), seed * 7_919 + 1));
    }
    tokio::join!(work(&http, &agent, &course), kill_the_second(&mesh, second, &course));
    until(60, "every invocation has ended", || async {
        let counts = http.get("/api/v1/invocations/counts").await;
        (counts["all"].as_u64() > Some(0) && counts["all"] == counts["completed"]).then_some(())
    })
    .await;
    let expected = committed(&mesh, &tenant).await;
    course.changes.store(expected.len(), Ordering::Relaxed);
    course.is_over.store(true, Ordering::Relaxed);
    assert!(expected.len() > 300, "there was something to hear: {}", expected.len());
    for _ in 0..CLIENTS {
        let heard = tokio::time::timeout(Duration::from_secs(120), clients.join_next()).await;
        let heard = heard.expect("it hears all").unwrap().unwrap();
        assert_eq!(heard.len(), expected.len(), "nothing is told twice");
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (id, seq) in &heard {
            let before = last.insert(id, *seq);
            assert!(before.is_none_or(|before| before < *seq), "{id} in order");
        }
        assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
