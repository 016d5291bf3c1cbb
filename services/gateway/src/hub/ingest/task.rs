//! The ingest's task: begins when somebody listens, goes on over every restart of the bus, ends when nobody is left.

use std::time::Duration;

use futures::future::BoxFuture;
use mesh_api::live::{SHARDS, ShardFeed, ShardFeedPage, ShardFeedRequest};
use mesh_api::{Caller, Endpoint};
use mesh_bus::{Bus, BusError, Numbered, StreamFollower, StreamName, Subscription};
use mesh_types::subject::Filter;
use mesh_types::{Problem, Tenant};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::super::Hub;
use super::super::nodes::Nodes;
use super::super::position::{Lane, Mark, Origin, Position};
use super::super::rooms::Flag;
use super::super::said::Event;
use super::{Heard, Ingest};

/// What JOURNAL lost at its end is found by looking this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after something that was asked had no answer.
const RETRY: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_secs(1);
/// Every reader is pinged once in so many ticks, each second another part of them.
const PING_TICKS: u64 = 20;
const CHECK_TICKS: u64 = 2;
/// Ticks without a reader after which the ingest ends.
const IDLE_TICKS_MAX: u64 = 60;
/// Events that wait to be written, and that are written at once.
const EVENTS_MAX: usize = 256;

/// Why the ingest stops.
enum Over {
    /// Nobody listens, or the process stops.
    Done,
    /// The feed or the stream is another one, or does not hold any more what is missing: begin anew.
    Another,
    /// Go on from where it was.
    Failed,
}

pub(in super::super) async fn run(hub: Hub) {
    let shutdown = hub.0.context.shutdown.clone();
    let mut over = Over::Done;
    while !shutdown.is_cancelled() {
        if let Over::Done = over {
            let wanted = hub.0.wanted.notified();
            if shutdown.run_until_cancelled(wanted).await.is_none() {
                return;
            }
        }
        let goes_on = matches!(over, Over::Failed);
        let Some(next) = shutdown.run_until_cancelled(one_run(&hub, goes_on)).await else {
            return;
        };
        over = next;
        if let Over::Failed = over
            && shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none()
        {
            return;
        }
    }
}

async fn one_run(hub: &Hub, goes_on: bool) -> Over {
    match Run::open(hub, goes_on).await {
        Ok(mut run) => run.listen().await,
        Err(error) => {
            tracing::warn!(%error, "pushes cannot begin yet");
            Over::Failed
        }
    }
}

/// Why it cannot begin.
#[derive(Debug, thiserror::Error)]
enum NotOpen {
    #[error("the bus: {0}")]
    Bus(#[from] BusError),
    #[error("execution: {0}")]
    Execution(#[from] Problem),
}

struct Run {
    ingest: Ingest,
    bus: Bus,
    journal: Subscription,
    events: mpsc::Receiver<Heard>,
    bell: watch::Receiver<u64>,
    reading: Option<BoxFuture<'static, Result<ShardFeedPage, Problem>>>,
    /// When the feed is to be read at the latest.
    look_at: Instant,
    tick: Interval,
    ticks: u64,
    /// Ticks in a row without a reader.
    idle_ticks: u64,
    /// Ends the task that follows EVENTS.
    stop: CancellationToken,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Run {
    /// Subscribes first and asks then how far all is: what comes in between is heard. Goes on from where readers are,
    /// if that is possible.
    async fn open(hub: &Hub, goes_on: bool) -> Result<Self, NotOpen> {
        let bus = hub.0.context.bus.clone();
        let mut bell = bus.reconnects();
        bell.mark_unchanged();
        let journal = bus.subscribe(&Filter::JournalAll).await?;
        let page = read(bus.clone(), ShardFeedRequest::default()).await?;
        let extent = bus.stream_extent(StreamName::Events).await?;
        let mut position = Position::new(Origin::of(&page.feed_id), Origin::of(&extent.created));
        for head in &page.heads {
            position.raise(Lane::Shard(head.shard), Mark::whole(head.batch));
        }
        position.events = Mark::whole(extent.last);
        let before = hub.rooms().position.clone().filter(|_| goes_on);
        // Events that came and went meanwhile would be passed over.
        let is_same = |before: &Position| {
            (before.feed, before.stream) == (position.feed, position.stream) && extent.first <= before.events.done() + 1
        };
        let position = before.filter(is_same).unwrap_or(position);
        let after = position.events.done();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let stop = CancellationToken::new();
        let follower = bus.follow(StreamName::Events, Filter::Events, after);
        let following = follow(bus.clone(), follower, sender, stop.clone());
        hub.0.context.tasks.spawn("live-events", following);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        begin(hub, &position);
        Ok(Self {
            ingest: Ingest::new(hub.clone(), position),
            bus,
            journal,
            events,
            bell,
            reading: None,
            look_at: Instant::now(),
            tick,
            ticks: 0,
            idle_ticks: 0,
            stop,
        })
    }

    async fn listen(&mut self) -> Over {
        let mut events = Vec::new();
        loop {
            if self.reading.is_none() && self.look_at <= Instant::now() {
                self.look();
            }
            let is_reading = self.reading.is_some();
            let read = async {
                match &mut self.reading {
                    Some(reading) => reading.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.journal.next() => match message {
                    Some(message) => {
                        if !self.ingest.take_journal(message) {
                            self.look_at = self.look_at.min(Instant::now());
                        }
                    }
                    None => return Over::Failed,
                },
                count = self.events.recv_many(&mut events, EVENTS_MAX) => {
                    if count == 0 {
                        return Over::Failed;
                    }
                    self.ingest.take_events(std::mem::take(&mut events));
                }
                found = read => {
                    self.reading = None;
                    if let Some(over) = self.take_read(found) {
                        return over;
                    }
                }
                changed = self.bell.changed() => {
                    if changed.is_err() {
                        return Over::Failed;
                    }
                    if let Some(over) = self.check_stream().await {
                        return over;
                    }
                    self.ingest.lost();
                    self.look_at = Instant::now();
                }
                _ = self.tick.tick() => {
                    if self.tick() {
                        return Over::Done;
                    }
                }
                () = tokio::time::sleep_until(self.look_at), if !is_reading => {}
            }
        }
    }

    fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_INTERVAL;
        let request = ShardFeedRequest {
            after: self.ingest.marks(),
            tenant: None,
        };
        self.reading = Some(Box::pin(read(self.bus.clone(), request)));
    }

    fn take_read(&mut self, found: Result<ShardFeedPage, Problem>) -> Option<Over> {
        match found {
            Ok(page) => {
                let is_other = Origin::of(&page.feed_id) != self.ingest.position.feed;
                if is_other || self.is_pruned(&page) {
                    return Some(Over::Another);
                }
                if self.ingest.take_feed(page) {
                    self.look_at = Instant::now();
                }
            }
            Err(problem) => {
                tracing::debug!(%problem, "the feed cannot be read; trying again");
                self.look_at = self.look_at.min(Instant::now() + RETRY);
            }
        }
        None
    }

    /// Whether something that was not told is not kept any more.
    fn is_pruned(&self, page: &ShardFeedPage) -> bool {
        let next = |shard: u16| self.ingest.shards.get(usize::from(shard)).map_or(0, super::Shard::next);
        page.heads.iter().any(|head| head.oldest > next(head.shard).max(1))
    }

    /// A server that lost its files has another stream under the same name, or none yet; one that was long away may have
    /// dropped what comes next.
    async fn check_stream(&mut self) -> Option<Over> {
        let Ok(extent) = self.bus.stream_extent(StreamName::Events).await else {
            return Some(Over::Failed);
        };
        let is_other = Origin::of(&extent.created) != self.ingest.position.stream
            || extent.first > self.ingest.position.events.done() + 1;
        is_other.then_some(Over::Another)
    }

    /// Once a second: pings, looks after the blocked, and drops what nobody needs. Whether nobody is left.
    fn tick(&mut self) -> bool {
        self.ticks += 1;
        let hub = &self.ingest.hub;
        let mut rooms = hub.rooms();
        for (_, seat) in rooms.handles() {
            if seat.id % PING_TICKS == self.ticks % PING_TICKS {
                seat.tell(Flag::PING);
            }
            if hub.0.has_credentials && seat.id % CHECK_TICKS == self.ticks % CHECK_TICKS {
                seat.tell(Flag::CHECK);
            }
            if seat.is_blocked.load(std::sync::atomic::Ordering::Relaxed) {
                seat.tell(Flag::BEHIND);
            }
        }
        self.idle_ticks = if rooms.sweep(hub.0.context.clock.monotonic()) {
            0
        } else {
            self.idle_ticks + 1
        };
        let is_over = self.idle_ticks > IDLE_TICKS_MAX;
        if is_over {
            // Under the lock: who comes now finds nothing and wakes the task.
            rooms.close();
        }
        is_over
    }
}

/// Readers are let in; those who are there and cannot go on begin anew.
fn begin(hub: &Hub, position: &Position) {
    let mut rooms = hub.rooms();
    match &rooms.position {
        Some(before) if before == position => {}
        Some(_) => rooms.restart(position.clone()),
        None => rooms.position = Some(position.clone()),
    }
    drop(rooms);
    hub.0.started.send_modify(|count| *count += 1);
}

async fn read(bus: Bus, request: ShardFeedRequest) -> Result<ShardFeedPage, Problem> {
    let caller = Caller::service("gateway", Tenant::default());
    let page = bus
        .call_within::<ShardFeed>(&caller, &request, ShardFeed::DEADLINE)
        .await?;
    if page.heads.len() == usize::from(SHARDS) {
        return Ok(page);
    }
    let detail = format!("the feed has {} shards, not {SHARDS}", page.heads.len());
    Err(Problem::new(mesh_types::Code::Internal, detail))
}

/// Hears EVENTS, and asks who sees the nodes that they are of.
async fn follow(bus: Bus, mut follower: StreamFollower, sender: mpsc::Sender<Heard>, stop: CancellationToken) {
    let mut nodes = Nodes::default();
    let following = async {
        loop {
            let Numbered { sequence, message } = follower.next().await;
            let heard = match serde_json::from_slice::<Event>(&message.payload) {
                Ok(event) => {
                    let node = nodes.seen(&bus, &event).await;
                    Some((event, node))
                }
                Err(error) => {
                    tracing::warn!(%error, sequence, "an event cannot be read; it is left out");
                    None
                }
            };
            if sender.send((sequence, heard)).await.is_err() {
                return;
            }
        }
    };
    stop.run_until_cancelled(following).await;
}
