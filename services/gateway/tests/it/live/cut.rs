//! Clients that are cut off at random, gateways that restart, a journal that loses and repeats: nothing is lost, nothing
//! is told twice, and each shard's pushes come in its order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures::StreamExt;
use gateway::{Config, Gateway};
use mesh_bus::Bus;
use mesh_runtime::{Context, Metrics};
use mesh_types::Tenant;
use serde_json::Value;

use super::Stage;
use super::client::Client;
use super::ground::{Fate, Ground, id_of};

const CUTS: usize = 10_000;
const CLIENTS: usize = 40;
const TOPICS: &str = "invocations,agents";

/// Another process of the gateway on the same bus.
pub(super) struct Another {
    context: Context,
    pub(super) address: SocketAddr,
}

impl Another {
    pub(super) async fn start(bus: &Bus, config: Config) -> Self {
        let context = Context::new("gateway", bus.clone(), Metrics::default());
        let gateway = Gateway::bind(Config { port: 0, ..config }).await.unwrap();
        let address = gateway.address();
        let serving = context.clone();
        context
            .tasks
            .spawn("edge", async move { gateway.serve(serving).await.unwrap() });
        Self { context, address }
    }

    /// As a process that is asked to end.
    pub(super) async fn stop(self) {
        self.context.shutdown.cancel();
        self.context.tasks.drain(Duration::from_secs(10)).await;
    }
}

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
    /// Where a gateway is now.
    address: Mutex<SocketAddr>,
    is_over: AtomicBool,
    cuts: AtomicUsize,
    /// The first cursor of all.
    start: String,
}

/// What a client was told, in order, over all of its connections.
#[derive(Default)]
struct Heard {
    pushes: Vec<Value>,
    cursor: Option<String>,
}

impl Heard {
    fn take(&mut self, message: Value) {
        assert!(message["reset"].is_null(), "nothing expires here: {message}");
        if let Some(cursor) = message["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
        if message["topic"].is_string() {
            self.pushes.push(message);
        }
    }

    /// The last invocation and the last agent: nothing follows them.
    fn has_all(&self, last: &[String; 2]) -> bool {
        last.iter()
            .all(|last| self.pushes.iter().rev().any(|push| id_of(push) == *last))
    }
}

/// One connection by WebSocket, for so many messages.
async fn by_socket(address: SocketAddr, heard: &mut Heard, start: &str, messages: u64) {
    let Ok(mut client) = Client::try_open(address, "", &[]).await else {
        return;
    };
    let after = heard.cursor.clone().unwrap_or_else(|| start.to_owned());
    let topics: Vec<&str> = TOPICS.split(',').collect();
    client
        .say_if_open(&serde_json::json!({"subscribe": topics, "after": after}))
        .await;
    for _ in 0..messages {
        match client.step_within(Duration::from_millis(300)).await {
            Some(message) => heard.take(message),
            None => return,
        }
    }
}

/// One connection by server-sent events.
async fn by_events(http: &reqwest::Client, address: SocketAddr, heard: &mut Heard, start: &str, messages: u64) {
    let after = heard.cursor.clone().unwrap_or_else(|| start.to_owned());
    let path = format!("http://{address}/api/v1/events?topics={TOPICS}");
    let Ok(response) = http.get(path).header("last-event-id", after).send().await else {
        return;
    };
    if !response.status().is_success() {
        return;
    }
    let mut stream = response.bytes_stream().eventsource();
    for _ in 0..messages {
        match tokio::time::timeout(Duration::from_millis(300), stream.next()).await {
            Ok(Some(Ok(event))) => heard.take(serde_json::from_str(&event.data).unwrap()),
            _ => return,
        }
    }
}

async fn listen(course: Arc<Course>, seed: u64, last: Arc<Mutex<Option<[String; 2]>>>) -> Vec<Value> {
    let mut dice = Dice(seed);
    let mut heard = Heard::default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    loop {
        let address = *course.address.lock().unwrap();
        // Most are cut before or soon after the first push; some go on for long.
        let messages = match dice.roll(10) {
            0 => 200,
            1..=3 => dice.roll(20),
            _ => dice.roll(4),
        };
        if dice.roll(4) == 0 {
            by_events(&http, address, &mut heard, &course.start, messages).await;
        } else {
            by_socket(address, &mut heard, &course.start, messages).await;
        }
        course.cuts.fetch_add(1, Ordering::Relaxed);
        let last = last.lock().unwrap().clone();
        if course.is_over.load(Ordering::Relaxed) && last.is_some_and(|last| heard.has_all(&last)) {
            return heard.pushes;
        }
    }
}

/// Commits and tells, with losses and repeats, until it is over. Answers what every client must have heard: of each
/// shard its invocations in order, and the agents' events.
async fn work(ground: &Ground, course: &Course) -> (BTreeMap<u16, Vec<String>>, Vec<String>) {
    let tenant = Tenant::default();
    let other: Tenant = "other".parse().unwrap();
    let mut dice = Dice(7);
    let (mut shards, mut agents) = (BTreeMap::<u16, Vec<String>>::new(), Vec::new());
    while course.cuts.load(Ordering::Relaxed) < CUTS {
        let shard = u16::try_from(dice.roll(16)).unwrap();
        match dice.roll(8) {
            0 => {
                let created = ground.agent_created(&tenant, "clara").await;
                agents.push(created.to_string());
            }
            1 => {
                ground.commit(shard, &other, 2);
            }
            _ => {
                let records = 1 + u32::try_from(dice.roll(4)).unwrap();
                let committed = ground.commit(shard, &tenant, records);
                shards
                    .entry(shard)
                    .or_default()
                    .extend(committed.iter().map(ToString::to_string));
            }
        }
        if dice.roll(3) > 0 {
            let mut fates = Dice(dice.roll(u64::MAX));
            let fate = |_| match fates.roll(12) {
                0 => Fate::Lost,
                1 => Fate::Repeated,
                _ => Fate::Told,
            };
            ground.relay(shard, fate).await;
        }
        tokio::time::sleep(Duration::from_millis(dice.roll(40))).await;
    }
    (shards, agents)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cuts_lose_nothing_and_repeat_nothing() {
    let stage = Stage::start().await;
    let (first, _) = Client::caught_up(stage.edge.address, &["invocations", "agents"], None).await;
    let course = Arc::new(Course {
        address: Mutex::new(stage.edge.address),
        is_over: AtomicBool::new(false),
        cuts: AtomicUsize::new(0),
        start: first.cursor.clone().unwrap(),
    });
    let last = Arc::new(Mutex::new(None));
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..CLIENTS as u64 {
        let heard = listen(Arc::clone(&course), seed * 7_919 + 1, Arc::clone(&last));
        clients.spawn(heard);
    }
    let restarts = async {
        while course.cuts.load(Ordering::Relaxed) < CUTS {
            let next = Another::start(&stage.edge.bus, Config::default()).await;
            *course.address.lock().unwrap() = next.address;
            let due = course.cuts.load(Ordering::Relaxed) + CUTS / 8;
            let is_due = || async { course.cuts.load(Ordering::Relaxed) >= due.min(CUTS) };
            mesh_testkit::wait_until(Duration::from_secs(300), is_due).await;
            *course.address.lock().unwrap() = stage.edge.address;
            next.stop().await;
        }
    };
    let ((mut shards, mut agents), ()) = tokio::join!(work(&stage.ground, &course), restarts);
    // The last of all, told properly.
    let tenant = Tenant::default();
    for shard in 0..16 {
        let committed = stage.ground.committed(shard, &tenant, 1).await;
        shards
            .entry(shard)
            .or_default()
            .extend(committed.iter().map(ToString::to_string));
    }
    let end = stage.ground.agent_created(&tenant, "last").await.to_string();
    agents.push(end.clone());
    let of_last_shard = shards[&15].last().unwrap().clone();
    *last.lock().unwrap() = Some([of_last_shard, end]);
    course.is_over.store(true, Ordering::Relaxed);
    for _ in 0..CLIENTS {
        let heard = tokio::time::timeout(Duration::from_secs(120), clients.join_next())
            .await
            .expect("it catches up")
            .unwrap()
            .unwrap();
        let of_topic = |topic: &str| -> Vec<String> {
            let ours = heard.iter().filter(|push| push["topic"] == *topic);
            ours.map(id_of).collect()
        };
        assert_eq!(of_topic("agents"), agents);
        let invocations = of_topic("invocations");
        let told: usize = shards.values().map(Vec::len).sum();
        for (shard, committed) in &shards {
            let ours: Vec<&String> = invocations.iter().filter(|id| committed.contains(id)).collect();
            // The client may stop between the last of all shards.
            let count = ours.len();
            assert!(
                count + 1 >= committed.len(),
                "of shard {shard} {count} of {}",
                committed.len()
            );
            assert_eq!(ours, committed[..count].iter().collect::<Vec<_>>(), "shard {shard}");
        }
        assert!(invocations.len() <= told, "nothing else is told");
    }
    assert!(course.cuts.load(Ordering::Relaxed) >= CUTS);
}
