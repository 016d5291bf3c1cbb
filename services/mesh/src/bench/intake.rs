//! The durable inbox: messages into INVOCATIONS, each acknowledged by the stream, until all are completed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use mesh_bus::{Bus, Headers, topology};
use mesh_servers::{NatsOptions, NatsServer, NatsTool, Quiet};
use mesh_types::Subject;
use tokio::task::JoinSet;

use super::agent::Target;
use super::calls::{self, PAYLOAD};
use super::ceiling::Bounds;
use super::place::{self, Place};
use super::report::{Intake, rounded};
use super::stopwatch::Latencies;
use super::store;

/// How often the database is asked whether all is there while the journal is not quiet.
const COUNT_EVERY: Duration = Duration::from_millis(500);
/// More than the clocks of one installation differ.
const IDS_APART: Duration = Duration::from_millis(100);

struct Published {
    latencies: Latencies,
    started: Instant,
    acknowledged: Instant,
}

impl Published {
    fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / (self.acknowledged - self.started).as_secs_f64()
    }
}

struct Course {
    subject: Subject,
    ends: Instant,
    budget: AtomicU64,
}

/// Publishes, waits until all is completed and listed, and compares with what the stream and the rows alone allow.
pub(super) async fn measure(
    place: &Place,
    target: &Target,
    concurrency: u64,
    bounds: Bounds,
    publish_ceiling: Option<f64>,
    journal_ceiling: Option<f64>,
) -> anyhow::Result<Intake> {
    let connections = place.connections(calls::connections(concurrency)).await?;
    let before = store::newest(&place.lanes, &target.tenant).await?;
    // Ids sort by their millisecond, and two processes make them: what comes now must sort after.
    tokio::time::sleep(IDS_APART).await;
    let published = publish(target, &connections, concurrency, bounds).await?;
    let accepted = published.latencies.count();
    let mut next_count = Instant::now();
    let done = calls::caught_up(place, target, |status| {
        // The count is not free: only when the journal is quiet, or now and then for the work of others in it.
        let is_time = status.open == 0 || Instant::now() >= next_count;
        if is_time {
            next_count = Instant::now() + COUNT_EVERY;
        }
        async move {
            let count = || store::completed_after(&place.lanes, &target.tenant, &target.agent, before);
            Ok(is_time && count().await? >= accepted)
        }
    });
    let done = done.await?;
    let seconds = (done - published.started).as_secs_f64();
    let per_second = accepted as f64 / seconds;
    let ceilings = [publish_ceiling, journal_ceiling];
    let ceiling = publish_ceiling
        .and(journal_ceiling)
        .and(ceilings.into_iter().flatten().reduce(f64::min));
    Ok(Intake {
        concurrency,
        per_second: rounded(per_second),
        p50_ms: published.latencies.quantile_ms(0.5),
        p99_ms: published.latencies.quantile_ms(0.99),
        ceiling_per_second: ceiling.map(rounded),
        publish_ceiling_per_second: publish_ceiling.map(rounded),
        journal_ceiling_per_second: journal_ceiling.map(rounded),
        ratio: ceiling.map(|ceiling| rounded(per_second / ceiling)),
        accepted,
        accepted_per_second: rounded(published.per_second()),
        seconds: rounded(seconds),
    })
}

async fn publish(target: &Target, connections: &[Bus], concurrency: u64, bounds: Bounds) -> anyhow::Result<Published> {
    let started = Instant::now();
    let course = Arc::new(Course {
        subject: Subject::Invoke {
            tenant: target.tenant.clone(),
            agent: target.agent.clone(),
        },
        ends: started + bounds.time,
        budget: AtomicU64::new(bounds.count),
    });
    let mut publishers = JoinSet::new();
    for bus in connections.iter().cycle().take(usize::try_from(concurrency)?) {
        publishers.spawn(publisher(bus.clone(), Arc::clone(&course)));
    }
    let mut latencies = Latencies::new();
    while let Some(lap) = publishers.join_next().await {
        lap??.into_iter().for_each(|latency| latencies.record(latency));
    }
    Ok(Published {
        latencies,
        started,
        acknowledged: Instant::now(),
    })
}

async fn publisher(bus: Bus, course: Arc<Course>) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let spends = |left: u64| left.checked_sub(1);
    while Instant::now() < course.ends
        && course
            .budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spends)
            .is_ok()
    {
        let asked = Instant::now();
        bus.publish_acked(&course.subject, Headers::new(), Bytes::from_static(PAYLOAD))
            .await?;
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

/// A nats-server as `mesh up` starts it, on the same disk, with the same streams, and nobody who takes in. It goes,
/// with its folder, when this value goes.
pub(super) struct Alone {
    url: String,
    // In this order: stopped, then removed.
    _server: NatsServer,
    _folder: Folder,
}

/// Removed with everything in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is removed by the next measurement.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Alone {
    /// `None` where the mesh's home, and so its disk, is elsewhere.
    pub(super) async fn start(place: &Place) -> anyhow::Result<Option<Self>> {
        if place.mesh_pid.is_none() {
            return Ok(None);
        }
        let path = place.home.join("bench-nats");
        let start = tokio::task::spawn_blocking(move || {
            let tool = NatsTool::resolve(&mut Quiet)?;
            NatsServer::stop_leftover(&path)?;
            let folder = Folder(path);
            // What a killed measurement left is no start.
            let _ = std::fs::remove_dir_all(&folder.0);
            let server = NatsServer::start(&tool, NatsOptions::new(&folder.0))?;
            Ok::<_, mesh_servers::ServersError>(Self {
                url: server.url(),
                _server: server,
                _folder: folder,
            })
        });
        let alone = start
            .await?
            .context("a nats-server to compare the durable inbox with cannot be started")?;
        place::connect(&alone.url, None)
            .await?
            .apply_topology(&topology::standard())
            .await?;
        Ok(Some(alone))
    }

    /// Messages a second that the stream takes.
    pub(super) async fn per_second(&self, target: &Target, concurrency: u64, bounds: Bounds) -> anyhow::Result<f64> {
        let mut connections = Vec::new();
        for _ in 0..calls::connections(concurrency) {
            connections.push(place::connect(&self.url, None).await?);
        }
        Ok(publish(target, &connections, concurrency, bounds).await?.per_second())
    }
}
